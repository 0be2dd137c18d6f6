"""The adapters of every family in a real vLLM on a CPU, with the canary as the witness."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluate.models import VLLM_FLAGS
from tests.models.test_families import BY_NAME, lora_of, train_tiny
from workloads.contract.records import ExitCode
from workloads.contract.tasks import AdapterSource
from workloads.contract.units import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")


@pytest.mark.parametrize("name", [name for name, family in BY_NAME.items() if family.vllm_lora])
def test_the_adapter_passes_its_canary_in_vllm(name: str, tmp_path: Path) -> None:
    family = BY_NAME[name]
    flags = VLLM_FLAGS | ({"merge_adapters": True} if family.experts else {})
    trained = train_tiny(tmp_path, family, lora_of(family))
    world = replace(trained.world, engine=Engine(name="vllm", version=vllm.__version__, dtype="float32", flags=flags))
    marker = trained.checkpoint
    member = world.member(AdapterSource(unit=trained.task.unit, marker=marker.name, content=marker.content))
    assert world.run(world.order(member)) == ExitCode.OK
    error = world.record(member.unit).canary_error
    assert error is not None
    assert error < 2e-3
