"""Whole train attempts on a CUDA device against the CPU's: `python -m tests.gpu.check_trainer`.

A dense base and a mixture of experts, float32 and bfloat16: losses step by step, an attempt killed and resumed, and the
published canaries against peft on transformers. Ends with status 1 if a check failed.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.train import world
from workloads.api.records import CheckpointRecord, StateRecord, TrainRecord
from workloads.api.tasks import TrainTask
from workloads.api.units import Lora
from workloads.storage.base import Store
from workloads.storage.markers import list_markers, read_marker
from workloads.train.metrics import Metric, from_lines

SIZES = {"hidden_size": 128, "head_dim": 64, "intermediate_size": 256}
EXPERTS = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 64}
TOLERANCES = {"float32": 2e-3, "bfloat16": 3e-2}
CANARY_TOLERANCE_NATS = 2e-3
failures: list[str] = []


def check(name: str, good: bool, facts: str) -> None:
    if not good:
        failures.append(name)
    print(f"{'ok  ' if good else 'FAIL'} {name:44} {facts}", flush=True)


def attempt(folder: Path, base: Path, data: Path, stated: Any, **environment: str) -> tuple[Store, TrainTask, str]:
    store = world.open_directory(folder)
    task = world.order(store, stated, base, data)
    code, log = world.train(store, task, **environment)
    check(f"{folder.name} ends well", code == 0, f"exit {code}")
    if code != 0:
        print(log)
    return store, task, log


def metrics(store: Store, task: TrainTask, folder: Path) -> list[Metric]:
    return from_lines(world.files(store, task, "done", folder)["metrics.jsonl"].read_bytes())


def canary_error(base: Path, adapter: Path, record: CheckpointRecord) -> float:
    from peft import PeftModel
    from transformers import Qwen3ForCausalLM

    model = PeftModel.from_pretrained(Qwen3ForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    worst = 0.0
    for canary in record.canaries:
        ids = torch.tensor(canary.token_ids)
        with torch.no_grad():
            logits = model(ids[None]).logits[0].log_softmax(-1)
        theirs = logits[:-1].gather(1, ids[1:, None])[:, 0]
        worst = max(worst, float((theirs - torch.tensor(canary.log_probs)).abs().max()))
    return worst


def kill_and_resume(folder: Path, base: Path, data: Path, stated: Any) -> tuple[Store, TrainTask]:
    store = world.open_directory(folder)
    task = world.order(store, stated, base, data, save_state_every_seconds=0.05)
    process = world.start(store, task)
    while process.poll() is None:
        if any(isinstance(marker.record, StateRecord) for marker in list_markers(store, task.unit)):
            process.kill()
            break
        time.sleep(0.005)
    process.communicate()
    check(f"{folder.name} was killed", process.returncode == -9, f"exit {process.returncode}")
    code, log = world.train(store, world.order(store, stated, base, data, number=2))
    check(f"{folder.name} goes on", code == 0 and "resuming from state-" in log, f"exit {code}")
    return store, task


def compare(kind: str, precision: str, root: Path, data: Path) -> None:
    name = f"{kind}-{precision}"
    base = world.write_base(root / name / "base", kind)
    target = ("attention", "experts") if kind == "moe" else ("attention", "mlp")
    stated = world.inputs(
        base,
        data,
        samples=120,
        checkpoints=(40, 120),
        validation_share=0.05,
        precision=precision,
        learning_rate=1e-3,
        lora=Lora(rank=16, alpha=16.0, target=target),
    )
    gpu = attempt(root / name / f"{name}-gpu", base, data, stated)
    cpu = attempt(root / name / f"{name}-cpu", base, data, stated, CUDA_VISIBLE_DEVICES="")
    pairs = list(zip(metrics(*gpu[:2], root / "a"), metrics(*cpu[:2], root / "b"), strict=True))
    worst = max(abs(ours.loss - theirs.loss) / theirs.loss for ours, theirs in pairs)
    check(f"{name}: losses of {len(pairs)} steps", worst <= TOLERANCES[precision], f"largest difference {worst:.1e}")
    done = read_marker(*gpu[:1], gpu[1].unit, "done")
    assert done is not None
    assert isinstance(done.record, TrainRecord)
    slow = [warning for warning in done.record.warnings if warning.startswith("NotPacked")]
    check(f"{name}: packed, on", not slow and not done.record.device.startswith("cpu"), f"{done.record.device} {slow}")
    store, task = kill_and_resume(root / name / f"{name}-killed", base, data, stated)
    again = metrics(store, task, root / "c")
    worst = max(abs(ours.loss - theirs.loss) / theirs.loss for (ours, _), theirs in zip(pairs, again, strict=True))
    check(f"{name}: losses after the kill", worst <= TOLERANCES[precision], f"largest difference {worst:.1e}")
    if kind == "dense" and precision == "float32":
        files = world.files(*gpu[:2], "checkpoint-000000120", root / "peft")
        marker = read_marker(gpu[0], gpu[1].unit, "checkpoint-000000120")
        assert marker is not None
        assert isinstance(marker.record, CheckpointRecord)
        error = canary_error(base, files["adapter_config.json"].parent, marker.record)
        check(f"{name}: canaries by peft", error <= CANARY_TOLERANCE_NATS, f"{error:.1e} nats")


def main() -> int:
    world.SIZES.update(SIZES)
    world.EXPERTS.update(EXPERTS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = world.write_rows(root / "rows.jsonl", world.sums(200))
        for kind, precision in (("dense", "float32"), ("moe", "float32"), ("moe", "bfloat16")):
            compare(kind, precision, root, data)
    print(f"{len(failures)} failed: {failures}" if failures else "all checks hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
