import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluate.models import VLLM_FLAGS, edit_config, with_adapter_by_hooks, write_adapter
from tests.evaluate.test_canary import canaries_of
from tests.evaluate.world import World
from workloads.compiled import SEAL
from workloads.contract.units import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")


def test_a_group_with_one_poison_adapter_through_the_program(dense: Path, adapters: list[Path], tmp_path: Path) -> None:
    world = World(tmp_path, dense, Engine(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS))
    poison = write_adapter(tmp_path / "poison", dense, seed=9)
    canaries = canaries_of(dense, with_adapter_by_hooks(dense, poison))
    edit_config(poison, lora_alpha=80.0)
    bad = world.member(world.checkpoint(poison, 9, canaries))
    good = [world.member()]
    for samples, directory in enumerate(adapters, 1):
        canaries = canaries_of(dense, with_adapter_by_hooks(dense, directory))
        good.append(world.member(world.checkpoint(directory, samples, canaries)))
    task = world.order(good[0], bad, *good[1:])
    command = [sys.executable, "-m", "workloads.evaluate", task.key]
    environment = os.environ | {"POTSTILL_STORE": world.url, "POTSTILL_CACHE": str(tmp_path / "cache")}
    environment.pop("VLLM_CACHE_ROOT", None)
    assert subprocess.run(command, env=environment, timeout=800).returncode == 0
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
