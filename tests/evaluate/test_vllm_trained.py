"""A real vLLM on a CPU loads the trainer's adapter and passes its canary."""

from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.models import VLLM_FLAGS
from tests.evaluate.world import World
from tests.train.world import inputs, order, sums, train_here, write_rows
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, ExitCode
from workloads.api.tasks import AdapterSource
from workloads.api.units import EngineIdentity, Lora
from workloads.storage.markers import read_marker

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")
SAMPLES = 40


@pytest.mark.parametrize(
    ("kind", "target", "flags"),
    [
        ("dense", ("attention", "mlp"), {}),
        ("dense", ("attention",), {}),
        ("moe", ("attention", "experts"), {"merge_adapters": True}),
    ],
)
def test_an_adapter_as_the_trainer_writes_it_passes_its_canary_in_vllm(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, target: Any, flags: dict[str, Any]
) -> None:
    base = request.getfixturevalue(kind)
    engine = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS | flags)
    world = World(tmp_path, base, engine)
    rows = write_rows(tmp_path / "rows.jsonl", sums(SAMPLES))
    lora = Lora(rank=4, alpha=8.0, target=target)
    stated = inputs(base, rows, samples=SAMPLES, checkpoints=(SAMPLES,), lora=lora, learning_rate=2e-2)
    task = order(world.store, stated, base, rows)
    assert train_here(world.store, task) == ExitCode.OK
    marker = read_marker(world.store, task.unit, store_keys.checkpoint_marker(SAMPLES))
    assert marker is not None
    assert isinstance(marker.record, CheckpointRecord)
    canaries = marker.record.canaries
    moved = [abs(a - b) for one in canaries for a, b in zip(one.log_probs, one.base_log_probs, strict=True)]
    assert sum(moved) / len(moved) > 0.05, "the training changed nothing that the canary could tell"
    source = AdapterSource(unit=task.unit, marker=marker.name, content=marker.content)
    member, plain = world.member(source), world.member()
    assert world.run(world.order(member, plain)) == ExitCode.OK
    record = world.record(member.unit)
    assert record.canary_error is not None
    assert record.canary_error < 2e-3
    assert [one.token_ids for one in world.outputs(member.unit)] != [one.token_ids for one in world.outputs(plain.unit)]
