import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.evaluate.models import VLLM_FLAGS, edit_config, with_adapter_by_hooks, write_adapter, write_dense
from tests.evaluate.test_canary import canaries_of
from tests.evaluate.test_offers import offer
from tests.evaluate.world import World
from tests.tools.processes import wait_until
from workloads.api import store_keys
from workloads.api.records import ExitCode, Progress
from workloads.api.tasks import GenerateTask
from workloads.api.units import EngineIdentity
from workloads.compiled import SEAL
from workloads.storage.base import NotFound

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")


HANGING = """
import os, sys, time
from workloads.api.tasks import GenerateTask
from workloads.evaluate import program
from workloads.engines.vllm.engine import VllmEngine
from workloads.program import run_program

def hang_in_the_core(worker):
    time.sleep(3600)

VllmEngine.step = lambda self: self._inner.collective_rpc(hang_in_the_core)
if __name__ == "__main__":
    program.STALL_SECONDS = 2.0
    sys.exit(run_program(GenerateTask, program.evaluate))
"""


STEPPING = """
import os, sys
from workloads.api.tasks import GenerateTask
from workloads.evaluate import program
from workloads.engines.vllm.engine import VllmEngine
from workloads.program import run_program

step = VllmEngine.step

def telling(self):
    open(os.environ["TOLD"], "a").close()
    return step(self)

VllmEngine.step = telling
if __name__ == "__main__":
    program.STALL_SECONDS = 300.0
    sys.exit(run_program(GenerateTask, program.evaluate))
"""


TELLING = """
import os, sys
from workloads.api.tasks import GenerateTask
from workloads.evaluate import program
from workloads.engines.vllm.engine import VllmEngine
from workloads.program import run_program

load = VllmEngine.load

def telling(self, adapter):
    with open(os.environ["TOLD"], "a") as file:
        print(len(self._adapters), file=file)
    load(self, adapter)

VllmEngine.load = telling
if __name__ == "__main__":
    sys.exit(run_program(GenerateTask, program.evaluate))
"""


def environment_of(world: World, folder: Path, **more: str) -> dict[str, str]:
    """The environment of a program in that world, with a separate cache of compiled code; a mark identifies its
    processes.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "VLLM_CACHE_ROOT"}
    stated = {
        "POTSTILL_STORE": world.url,
        "POTSTILL_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "MARK_OF_THE_TEST": str(folder),
    }
    return inherited | stated | more


def test_a_core_that_hangs_is_ended_with_its_stacks(dense: Path, tmp_path: Path) -> None:
    """vLLM's core runs in separate processes. They write the stacks at which they hang, and no process is left."""
    world = World(
        tmp_path, dense, EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS)
    )
    member = world.member()
    task = world.order(member)
    script = tmp_path / "hanging.py"
    script.write_text(HANGING)
    environment = environment_of(world, tmp_path, VLLM_ALLOW_INSECURE_SERIALIZATION="1")
    command = [sys.executable, str(script), task.key]
    ended = subprocess.run(command, env=environment, timeout=400, capture_output=True, text=True)
    assert ended.returncode == 1
    failure = world.failure(member)
    assert failure is not None
    assert (failure.reason, "generating: no progress" in failure.message) == ("EngineHung", True)
    assert "hang_in_the_core" in ended.stderr
    assert "hang_in_the_core" in (failure.traceback or "")
    assert not marked(tmp_path)


def test_a_program_whose_process_group_gets_sigterm_ends_with_its_core(dense: Path, tmp_path: Path) -> None:
    """Like `potstill run`, it sends the signal while outputs are generated: the program saves finished outputs and ends
    its core.
    """
    engine = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS)
    problems = {f"p{number}": f"What is {number}?" for number in range(1500)}
    world = World(tmp_path, dense, engine, limit_tokens=150, problems=problems)
    task = world.order(world.member())
    script, told = tmp_path / "stepping.py", tmp_path / "told"
    script.write_text(STEPPING)
    environment = environment_of(world, tmp_path, TOLD=str(told))
    program = subprocess.Popen([sys.executable, str(script), task.key], env=environment, start_new_session=True)
    try:
        wait_until(told.exists, "the first step", 200)
        os.killpg(program.pid, signal.SIGTERM)
        assert program.wait(60) == ExitCode.TERMINATED
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    wait_until(lambda: not marked(tmp_path), "the end of all its processes")


def test_a_checkpoint_joins_a_running_engine(tmp_path: Path) -> None:
    """The checkpoint is offered like by the controller, when the program reports capacity: its outputs are right."""
    base = write_dense(tmp_path / "base", max_position_embeddings=4096)
    adapter = write_adapter(tmp_path / "adapter", base, seed=1)
    engine = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS)
    world = World(tmp_path, base, engine, limit_tokens=4000, problems={f"p{n}": f"What is {n}?" for n in range(12)})
    host = world.order(world.member(), takes_offers=True)
    canaries = canaries_of(base, with_adapter_by_hooks(base, adapter))
    member = world.member(world.checkpoint(adapter, 1, canaries), problems=("p0",), limit_tokens=16)
    command = [sys.executable, "-m", "workloads.evaluate", host.key]
    program = subprocess.Popen(command, env=environment_of(world, tmp_path))
    try:
        wait_until(lambda: room(world, host) or program.poll() is not None, "room for more", 300)
        offer(world, host, 1, member)
        assert program.wait(300) == 0
    finally:
        program.kill()
    first, joined = world.marker(host.unit), world.marker(member.unit)
    assert first is not None
    assert joined is not None
    assert joined.created < first.created, "it did not run beside what was there"
    canary_error = world.record(member.unit).canary_error
    assert canary_error is not None
    assert canary_error < 1e-3


def room(world: World, task: GenerateTask) -> int:
    try:
        progress = Progress.model_validate_json(world.store.get(store_keys.progress_key(task.unit, task.number)))
    except NotFound:
        return 0
    return progress.room if progress.phase == "generating" else 0


def marked(mark: Path) -> list[Path]:
    """Processes that are left of a program that was started with this mark in its environment."""
    mark_line = f"MARK_OF_THE_TEST={mark}".encode()
    return [place for place in Path("/proc").glob("[0-9]*/environ") if mark_line in readable(place)]


def readable(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:
        return b""


def test_a_group_with_one_poison_adapter_through_the_program(dense: Path, adapters: list[Path], tmp_path: Path) -> None:
    world = World(
        tmp_path, dense, EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS)
    )
    poison = write_adapter(tmp_path / "poison", dense, seed=9)
    canaries = canaries_of(dense, with_adapter_by_hooks(dense, poison))
    edit_config(poison, lora_alpha=80.0)
    bad = world.member(world.checkpoint(poison, 9, canaries))
    good = [world.member()]
    for samples, directory in enumerate(adapters, 1):
        canaries = canaries_of(dense, with_adapter_by_hooks(dense, directory))
        good.append(world.member(world.checkpoint(directory, samples, canaries)))
    task = world.order(good[0], bad, *good[1:])
    script, told = tmp_path / "telling.py", tmp_path / "told"
    script.write_text(TELLING)
    environment = environment_of(world, tmp_path, TOLD=str(told))
    assert subprocess.run([sys.executable, str(script), task.key], env=environment, timeout=800).returncode == 0
    loads = [int(line) for line in told.read_text().splitlines()]
    assert len(loads) == len(good), "each adapter once, the poison among them"
    assert max(loads) < int(VLLM_FLAGS["max_loras"]), "an adapter is loaded when a slot is free of requests"
    [seal] = (tmp_path / "cache" / "compiled" / "vllm").glob(f"*/{SEAL}")
    assert len(list(seal.parent.iterdir())) > 1, "what vLLM found out at this start is there for the next"
    failure = world.failure(bad)
    assert failure is not None
    assert "canary failed" in failure.message
    texts = set()
    for member in good:
        record = world.record(member.unit)
        assert record.outputs == len(world.problems)
        assert record.versions["vllm"] == vllm.__version__
        assert record.engine.flags["max_num_seqs"] == 32
        if member.adapter is not None:
            assert record.canary_error is not None
            assert record.canary_error < 1e-3
        texts.add(tuple(output.token_ids for output in world.outputs(member.unit)))
    assert len(texts) == len(good)
