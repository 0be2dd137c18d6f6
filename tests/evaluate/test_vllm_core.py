"""vLLM's engine core is forked from a fork server: a process that has imported vLLM already. Without a usable server vLLM
spawns the core, which then imports vLLM itself.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.evaluate.models import VLLM_FLAGS
from tests.tools.processes import wait_until
from workloads.api.units import EngineIdentity
from workloads.engines.base import Decoding, Demands, Request
from workloads.engines.vllm.config import parse_flags
from workloads.engines.vllm.engine import VllmEngine
from workloads.engines.vllm.fork_server import (
    CoreServer,
    forked_core,
    import_ahead,
    set_environment,
    take_environment,
)
from workloads.models.shapes import read_shapes
from workloads.text.tokenizer import load_tokenizer


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def exit_1() -> None:
    sys.exit(1)


@contextmanager
def killing(program: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        program.kill()


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_forked_process_has_the_variables_that_imports_set_and_the_changes_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`inherited`: the program's environment when the server started. `program`: its environment at the fork."""
    inherited = {"KEPT": "1", "CHANGED": "1", "TAKEN_AWAY": "1", "SET_BY_IMPORT": "1"}
    program = {"KEPT": "1", "CHANGED": "2", "SET_BY_IMPORT": "1", "NEW": "2"}
    for name in inherited | program | {"NEW_BY_IMPORT": ""}:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it after the test
        monkeypatch.delenv(name)
    os.environ.update(inherited | {"SET_BY_IMPORT": "i", "NEW_BY_IMPORT": "i"})
    take_environment(program, inherited)
    found = {name: os.environ.get(name) for name in (*inherited, "NEW", "NEW_BY_IMPORT")}
    assert found == {
        "KEPT": "1",
        "CHANGED": "2",
        "TAKEN_AWAY": None,
        "SET_BY_IMPORT": "i",
        "NEW": "2",
        "NEW_BY_IMPORT": "i",
    }


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("killed", ["program", "server"])
def test_a_forked_process_is_like_a_spawned_one_and_ends_with_its_parent(tmp_path: Path, killed: str) -> None:
    command = [sys.executable, "-m", "tests.evaluate.forked", str(tmp_path / "environment.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program, killing(program):
        assert program.stdout is not None
        found = json.loads(program.stdout.readline())
        # The process that writes environment.json is forked after SIGTERM and SIGINT were sent to the server.
        assert found["writer_exit"] == 0, "the server did not fork a process after SIGTERM and SIGINT"
        # None if vLLM is installed; otherwise the server cannot import it.
        assert found["problem"] in (None, "the server could not import it")
        assert json.loads((tmp_path / "environment.json").read_text()) == {
            "STAYS": "1",
            "CHANGES": "2",
            "GOES": None,
            "COMES": "2",
            "ends on SIGTERM": True,
        }
        server, core = found["server"], found["core"]
        assert lives(server)
        assert lives(core)
        os.kill(program.pid if killed == "program" else server, signal.SIGKILL)
        wait_until(lambda: not lives(server) and not lives(core), "the end of server and core")
        program.kill()
        # This read ends only when no process is left that has the output open.
        assert program.stdout.read() == "", "something was printed after the first line"


@pytest.mark.vllm
@pytest.mark.timeout(900)
class TestWithVllm:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("vllm")

    def start(self, base: Path) -> VllmEngine:
        import vllm

        asked = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=dict(VLLM_FLAGS))
        demands = Demands(longest_tokens=80, rank=4, target="all")
        engine = VllmEngine.start(asked, base, read_shapes(base), load_tokenizer(base), demands)
        assert isinstance(engine, VllmEngine)
        return engine

    def core(self, engine: VllmEngine) -> int:
        """Returns the process id of the engine's core."""
        return int(engine._inner.engine_core.resources.engine_manager.processes[0].pid)

    def answers(self, engine: VllmEngine) -> bool:
        """Returns whether the engine generates the four tokens that are requested."""
        decoding = Decoding(temperature=0.0, top_p=1.0, limit_tokens=4, stop_token_ids=())
        engine.submit(Request(id="one", group="one", prompt=(5, 6, 7), adapter=None, decoding=decoding, seed=0))
        finished = []
        while engine.pending:
            finished += engine.step()
        return [len(one.token_ids) for one in finished] == [4]

    def test_the_core_of_each_engine_is_a_child_of_the_server(self, dense: Path) -> None:
        servers = set()
        for _ in range(2):
            engine = self.start(dense)
            try:
                servers.add(parent_of(self.core(engine)))
                assert self.answers(engine)
            finally:
                engine.close()
        (server,) = servers
        assert server != os.getpid()
        assert parent_of(server) == os.getpid()

    def test_the_core_is_spawned_if_a_variable_of_vllm_changed_after_the_server_imported_it(
        self, dense: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        import_ahead(parse_flags(dict(VLLM_FLAGS)))
        monkeypatch.setenv("VLLM_LOG_STATS_INTERVAL", "11")
        engine = self.start(dense)
        try:
            assert parent_of(self.core(engine)) == os.getpid()
            assert self.answers(engine)
        finally:
            engine.close()
        assert "imports vLLM again: the server imported it before VLLM_LOG_STATS_INTERVAL was changed" in caplog.text

    def test_a_server_is_not_used_if_the_check_in_its_forked_process_fails(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_environment(parse_flags(dict(VLLM_FLAGS)))
        from vllm.v1.engine import utils

        before = utils.get_mp_context
        with forked_core(CoreServer(check=exit_1)):
            assert utils.get_mp_context is before  # forked_core replaces it only if the server can be used
        assert "imports vLLM again: a process forked from the server ended with 1" in caplog.text
