"""The core of vLLM is forked from a process that imported vLLM before; without such a process it is spawned."""

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tests.evaluate.models import VLLM_FLAGS
from workloads.contract.units import Engine as EngineInputs
from workloads.evaluate import vllm_core
from workloads.evaluate.engine import Decoding, Demands, Request
from workloads.evaluate.shapes import read_shapes
from workloads.evaluate.vllm_core import CoreProcess, Server, forked_core
from workloads.evaluate.vllm_engine import VllmEngine
from workloads.text.tokenizer import load_tokenizer


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def tell_environment(place: Path) -> None:
    place.write_text(os.environ.get("POTSTILL_TEST", "nothing"))


def fail() -> None:
    sys.exit(1)


def test_a_forked_process_has_the_environment_of_the_moment_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forkserver.ensure_running()
    for value in ("first", "second"):
        monkeypatch.setenv("POTSTILL_TEST", value)
        process = CoreProcess(target=tell_environment, args=(tmp_path / value,))
        process.start()
        process.join(60)
        assert (process.exitcode, (tmp_path / value).read_text()) == (0, value)
    assert multiprocessing.get_start_method(allow_none=True) != "forkserver", "only the core is made this way"


@pytest.mark.vllm
@pytest.mark.timeout(900)
class TestWithVllm:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("vllm")

    def start(self, base: Path) -> VllmEngine:
        import vllm

        asked = EngineInputs(name="vllm", version=vllm.__version__, dtype="float32", flags=dict(VLLM_FLAGS))
        engine = VllmEngine.start(asked, base, read_shapes(base), load_tokenizer(base), Demands(80, 4, "all"))
        assert isinstance(engine, VllmEngine)
        return engine

    def core(self, engine: VllmEngine) -> int:
        return int(engine._inner.engine_core.resources.engine_manager.processes[0].pid)

    def answers(self, engine: VllmEngine) -> bool:
        engine.submit(Request("one", "one", (5, 6, 7), None, Decoding(0.0, 1.0, 4, ()), 0))
        finished = []
        while engine.pending:
            finished += engine.step()
        return [len(one.token_ids) for one in finished] == [4]

    def test_the_core_is_a_child_of_the_server(self, dense: Path) -> None:
        engine = self.start(dense)
        try:
            server = parent_of(self.core(engine))
            assert server != os.getpid()
            assert parent_of(server) == os.getpid()
            assert self.answers(engine)
        finally:
            engine.close()

    def test_variables_that_were_set_since_make_it_spawned(
        self, dense: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(vllm_core, "_servers", [Server()])
        monkeypatch.setenv("VLLM_LOG_STATS_INTERVAL", "11")
        engine = self.start(dense)
        try:
            assert parent_of(self.core(engine)) == os.getpid()
            assert self.answers(engine)
        finally:
            engine.close()
        assert (
            "imports vLLM once more: the server imported it before VLLM_LOG_STATS_INTERVAL was changed" in caplog.text
        )

    def test_a_server_whose_processes_cannot_be_cores_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(vllm_core, "look", fail)
        monkeypatch.setattr(vllm_core, "_servers", [Server()])
        from vllm.v1.engine import utils

        before = utils.get_mp_context
        with forked_core():
            assert utils.get_mp_context is before
        assert "imports vLLM once more: its processes cannot use the GPU" in caplog.text
