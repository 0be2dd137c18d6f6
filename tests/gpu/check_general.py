"""The general trainer on a CUDA device: `python -m tests.gpu.check_general [--tiny] [--families NAME ...]`.

Every family of workloads/models in float32 against the CPU, loss by loss; a few in bfloat16, with the canary in the
transformers engine; and the measured first step on a Llama of 1B shapes: with several limits of memory, no step of the
run takes more than its limit. Ends with status 1 if a check failed. `--tiny`: small shapes for the last part.
`--families`: only these, without the last part.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from perf.train.trainee import random_rows, task_of
from tests.evaluate.world import TRANSFORMERS, World
from tests.models.tiny import write_tiny_base
from tests.train import world
from tests.train.world import inputs, order, sums, write_rows
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord
from workloads.api.tasks import AdapterSource, TrainTask
from workloads.api.units import GENERAL_NUMERICS, Lora, Template
from workloads.models import FAMILIES
from workloads.models.base import ModelFamily
from workloads.storage.base import Store
from workloads.storage.markers import read_marker
from workloads.train.batches import supervised_tokens
from workloads.train.general.memory import CudaMemory
from workloads.train.general.trainer import GeneralTrainer
from workloads.train.metrics import from_lines
from workloads.train.model import BadModel
from workloads.train.ranks import Ranks
from workloads.train.step import optimizer_step

STEPS, ROWS = 20, 12
LOSS_TOLERANCE = 2e-3
BFLOAT16 = ("llama", "gemma2", "phi3", "mixtral")
SIZES = {"hidden_size": 128, "intermediate_size": 256}
HEAD_SIZE = 32
LLAMA_1B = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 8192,
}  # fmt: skip
LLAMA_TINY = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 8192,
}  # fmt: skip
failures: list[str] = []


def check(name: str, good: bool, facts: str) -> None:
    if not good:
        failures.append(name)
    print(f"{'ok  ' if good else 'FAIL'} {name:44} {facts}", flush=True)


def attempt(folder: Path, base: Path, rows: Path, stated: Any, **environment: str) -> tuple[Store, TrainTask]:
    store = world.open_directory(folder)
    task = order(store, stated, base, rows)
    code, log = world.train(store, task, **environment)
    check(f"{folder.name} ends well", code == 0, f"exit {code}")
    if code != 0:
        print(log)
    return store, task


def losses(store: Store, task: TrainTask, folder: Path) -> list[float]:
    return [
        metric.loss
        for metric in from_lines(world.files(store, task, store_keys.DONE, folder)["metrics.jsonl"].read_bytes())
    ]


def stated_for(family: ModelFamily, base: Path, rows: Path, precision: str) -> Any:
    return inputs(
        base, rows, template=Template(name="plain"), samples=STEPS * ROWS, batch_size=ROWS, on_short="repeat",
        checkpoints=(STEPS * ROWS,), learning_rate=5e-3, precision=precision, trainer="general",
        numerics=GENERAL_NUMERICS, lora=Lora(rank=4, alpha=8.0, target=tuple(sorted(family.kinds))),
    )  # fmt: skip


def compare(family: ModelFamily, root: Path, rows: Path) -> None:
    changes = SIZES | ({"head_dim": HEAD_SIZE} if "head_dim" in family.tiny else {})
    base = write_tiny_base(root / family.name, family, **changes)
    stated = stated_for(family, base, rows, "float32")
    gpu = attempt(root / f"{family.name}-gpu", base, rows, stated)
    cpu = attempt(root / f"{family.name}-cpu", base, rows, stated, CUDA_VISIBLE_DEVICES="")
    pairs = list(zip(losses(*gpu, root / "a"), losses(*cpu, root / "b"), strict=True))
    worst = max(abs(ours - theirs) / theirs for ours, theirs in pairs)
    check(f"{family.name}: losses as on the CPU", worst <= LOSS_TOLERANCE, f"largest difference {worst:.1e}")
    if family.name in BFLOAT16:
        check_canary(family, base, root, rows)


def check_canary(family: ModelFamily, base: Path, root: Path, rows: Path) -> None:
    """Trained in bfloat16, evaluated by the transformers engine in bfloat16 on the same device."""
    engine = TRANSFORMERS.model_copy(update={"dtype": "bfloat16", "gpu": "check"})
    folder = root / f"{family.name}-bf16"
    lab = World(folder, base, engine)
    task = order(lab.store, stated_for(family, base, rows, "bfloat16"), base, rows)
    code, log = world.train(lab.store, task)
    check(f"{family.name}: bfloat16 ends well", code == 0, f"exit {code} {log[-500:] if code else ''}")
    marker = read_marker(lab.store, task.unit, store_keys.checkpoint_marker(STEPS * ROWS))
    assert marker is not None
    assert isinstance(marker.record, CheckpointRecord)
    member = lab.member(AdapterSource(unit=task.unit, marker=marker.name, content=marker.content))
    code = lab.run(lab.order(member))
    error = lab.record(member.unit).canary_error if code == 0 else None
    check(f"{family.name}: canary in bfloat16", code == 0, f"exit {code}, error {error} nats")


def check_memory(shapes: dict[str, Any], longest: int) -> None:
    """With each limit the run's own steps stay below it; a limit below the model's weights is refused."""
    device = torch.device("cuda", 0)
    total = torch.cuda.mem_get_info(device)[1]
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with device:
        model = LlamaForCausalLM(LlamaConfig(**shapes | {"attn_implementation": "sdpa"}))
    torch.set_default_dtype(torch.float32)
    lora = Lora(rank=16, alpha=16.0, target=("all-linear",))
    stated = task_of(16, 4, longest).inputs.model_copy(update={"lora": lora, "trainer": "general"})
    memory = CudaMemory(device, 1)
    trainer = GeneralTrainer(Path("random"), stated, Ranks(0, 1, device), memory=memory, model=model)
    adapter = trainer.add_parameters()
    weights = torch.cuda.memory_allocated(device)
    lengths = [longest, *(longest * part // 16 for part in (3, 5, 5, 7, 9, 11, 13, 15, 2, 1, 16, 4, 6, 8, 10))]
    rows = random_rows(lengths, shapes["vocab_size"], seed=1)
    everything = range(len(rows))
    seen = set()
    whole = trainer.plan_memory(longest, adapter).peak_bytes or total
    for share in (1.0, 0.75, 0.5, 0.3, 0.2):
        memory.limit_bytes = int(weights + share * (whole - weights))
        try:
            plan = trainer.plan_memory(longest, adapter)
        except BadModel as error:
            print(f"     limit {memory.limit_bytes / 2**30:.2f} GiB: {error}", flush=True)
            continue
        seen.add((plan.tokens, plan.checkpointing))
        optimizer = adapter.adamw(0.0)
        torch.cuda.reset_peak_memory_stats(device)
        count = supervised_tokens(rows, everything)
        for step in range(1, 4):
            batches = trainer.micro_batches(rows, everything, plan.tokens, 0, 1, step)
            args = (count, 1e-5, 1.0, Ranks(0, 1, device), False, lambda: None)
            optimizer_step(trainer.loss_sum, adapter, optimizer, batches, *args).wait()
        peak = torch.cuda.max_memory_allocated(device)
        facts = (
            f"{plan.tokens} tokens, checkpointing {plan.checkpointing}, measured {(plan.peak_bytes or 0) / 2**30:.2f}, "
            f"run {peak / 2**30:.2f}, limit {memory.limit_bytes / 2**30:.2f} GiB"
        )
        check(f"memory: {share:.0%} of what the largest took", peak <= memory.limit_bytes, facts)
    check("memory: smaller limits made smaller batches", len(seen) > 1, f"{sorted(seen)}")
    memory.limit_bytes = weights // 2
    try:
        trainer.plan_memory(longest, adapter)
        check("memory: what cannot fit is refused", False, "it was not")
    except BadModel as error:
        check("memory: what cannot fit is refused", True, str(error))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--families", nargs="+", choices=sorted(family.name for family in FAMILIES.values()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        rows = write_rows(root / "rows.jsonl", sums(ROWS))
        for family in FAMILIES.values():
            if args.families is None or family.name in args.families:
                compare(family, root, rows)
    if args.families is None:
        check_memory(*((LLAMA_TINY, 256) if args.tiny else (LLAMA_1B, 4096)))
    print(f"{len(failures)} failed: {failures}" if failures else "all checks hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
