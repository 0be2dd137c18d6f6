"""A training of a dense base on one GPU and on several, whose ranks shard its weights or each have all of them.

    python -m perf.train.sharded --out DIR [--cases LAYERS/RANKS/SHARDING ...] [--bases DIR]
        [--memory-gib N] [--lora] [--tiny]

Random weights with the shapes of Qwen3-14B and LAYERS layers (40: 14.8 billion parameters, whose weights, gradients and
moments fit no single GPU; 12: 5.5 billion, which fit an H200), all trained in bfloat16 from float32 weights, or with
`--lora` adapters of rank 32 of attention and mlp. For each case
the trainer's launcher starts RANKS ranks; the general trainer loads the base from `--bases`, decides by SHARDING (auto,
always, never), measures its first step and makes `--steps` steps of `--documents` documents; the first is not timed.
Prints tokens per second, steps per second and the peak GiB of each rank; if the trainer refuses a base, its message.
Writes DIR/sharded.json after every case. `--tiny`: a small base and two processes on CPUs, to try the program.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from perf.train.shapes import machine
from perf.train.trainee import random_rows, task_of
from workloads.api.units import Lora, TrainInputs
from workloads.models.memory import parameters_of, training_bytes
from workloads.train.batches import supervised_tokens
from workloads.train.general.sharding import bytes_here
from workloads.train.general.trainer import GeneralTrainer
from workloads.train.launch import free_address, launch, rank_environments
from workloads.train.model import BadModel
from workloads.train.ranks import Ranks, join_ranks
from workloads.train.step import optimizer_step

QWEN3_14B: dict[str, Any] = {
    "vocab_size": 151_936, "hidden_size": 5120, "intermediate_size": 17_408, "num_attention_heads": 40,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40_960, "tie_word_embeddings": False,
    "use_cache": False,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16,
}  # fmt: skip
CASES = ["40/1/auto", "40/2/auto", "12/1/auto", "12/2/always", "12/2/never"]
TINY_CASES = ["3/2/always", "2/1/auto", "2/2/always", "2/2/never"]
LEARNING_RATE = {"full": 1e-6, "lora": 1e-3}


def write_base(folder: Path, layers: int, tiny: bool, device: torch.device) -> None:
    """Writes a base of random bfloat16 weights, which are drawn on `device`."""
    config = Qwen3Config(**(QWEN3_14B | (SMALL if tiny else {})), num_hidden_layers=layers)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with device:
        model = Qwen3ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()


def stated(args: argparse.Namespace) -> TrainInputs:
    """The inputs of a training of all weights, or of adapters, in bfloat16."""
    changes: dict[str, Any] = {"type": "full", "lora": None}
    if args.lora:
        changes = {"type": "lora", "lora": Lora(rank=32, alpha=32.0, target=("attention", "mlp"))}
    changes["trainer"] = "general"
    return task_of(args.documents, args.steps, args.length).inputs.model_copy(update=changes)


def of_every_rank(number: int, ranks: Ranks) -> list[int]:
    """Returns the number that each rank gave. Every rank must call it."""
    found = torch.zeros(ranks.count, dtype=torch.int64, device=ranks.device)
    found[ranks.rank] = number
    ranks.sum(found)
    return [int(one) for one in found]


def peak_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def measure(base: Path, sharding: Any, ranks: Ranks, args: argparse.Namespace) -> dict[str, Any]:
    """Trains on random documents. Returns what was measured. Raises BadModel if the base does not fit."""
    began = time.perf_counter()
    trainer = GeneralTrainer(base, stated(args), ranks, sharding=sharding)
    parameters = trainer.add_parameters()
    rows = random_rows([args.length] * args.documents, int(trainer.model.config.vocab_size), seed=1)
    loaded = time.perf_counter()
    plan = trainer.plan_memory(args.length, parameters)
    planned = time.perf_counter()
    everything = range(len(rows))
    count = supervised_tokens(rows, everything)
    optimizer = parameters.adamw(weight_decay=0.0)
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ranks.device)
    seconds, losses = [], []
    for step in range(1, args.steps + 1):
        start = time.perf_counter()
        batches = trainer.micro_batches(rows, everything, plan.tokens, ranks.rank, ranks.count, step)
        settings = (count, LEARNING_RATE[stated(args).type], 1.0, ranks, False, lambda: None)
        reading = optimizer_step(trainer.loss_sum, parameters, optimizer, batches, *settings)
        loss_sum, _, _ = reading.wait()
        seconds.append(time.perf_counter() - start)
        losses.append(loss_sum / count)
    step_seconds = median(seconds[1:])
    return {
        "sharded": trainer.sharded,
        "parameters": parameters_of(base),
        "bytes_of_parameters": of_every_rank(bytes_here(trainer.model), ranks),
        "tokens_per_micro_batch": plan.tokens,
        "gradient_checkpointing": plan.checkpointing,
        "load_seconds": loaded - began,
        "plan_seconds": planned - loaded,
        "step_seconds": seconds,
        "losses": losses,
        "tokens": sum(int(rows.kept[row]) for row in everything),
        "tokens_per_second": sum(int(rows.kept[row]) for row in everything) / step_seconds,
        "steps_per_second": 1 / step_seconds,
        "peak_bytes": of_every_rank(peak_bytes(ranks.device), ranks),
    }


def told(case: str, result: dict[str, Any]) -> str:
    if "refused" in result:
        return f"{case:12} refused: {result['refused']}"
    peaks = " and ".join(f"{peak / 2**30:.1f}" for peak in result["peak_bytes"])
    held = " and ".join(f"{size / 2**30:.2f}" for size in result["bytes_of_parameters"])
    return (
        f"{case:12} {result['parameters'] / 1e9:.2f} billion parameters, "
        f"{'sharded' if result['sharded'] else 'not sharded'}: {result['tokens_per_second']:.0f} tokens/s, "
        f"{result['steps_per_second']:.3f} steps/s; micro-batches of {result['tokens_per_micro_batch']} tokens, "
        f"gradient checkpointing {'on' if result['gradient_checkpointing'] else 'off'}; "
        f"peak {peaks} GiB, weights {held} GiB; "
        f"losses {result['losses'][0]:.4f} to {result['losses'][-1]:.4f}"
    )


def run_rank(case: str, args: argparse.Namespace) -> int:
    layers, _, sharding = case.split("/")
    base = args.bases / f"layers-{layers}"
    with join_ranks() as ranks:
        if ranks.leads and not base.exists():
            write_base(base, int(layers), args.tiny, ranks.device)
        of_every_rank(0, ranks)
        if args.memory_gib and ranks.device.type == "cuda":
            share = args.memory_gib * 2**30 / torch.cuda.get_device_properties(ranks.device).total_memory
            torch.cuda.set_per_process_memory_fraction(share, ranks.device)
        try:
            result = measure(base, sharding, ranks, args)
        except BadModel as error:
            needed = training_bytes(parameters_of(base), "lora" if args.lora else "full", "bfloat16")
            result = {"refused": str(error), "parameters": parameters_of(base), "bytes_if_not_sharded": needed}
        if ranks.leads:
            path = args.out / "sharded.json"
            found = json.loads(path.read_text()) if path.exists() else {"commit": args.commit, "cases": {}}
            found["machine"] = machine() if ranks.device.type == "cuda" else {}
            found["cases"][case] = result
            path.write_text(json.dumps(found, indent=1) + "\n")
            print(told(case, result), flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", metavar="LAYERS/RANKS/SHARDING")
    parser.add_argument("--bases", type=Path, help="where bases are written, and read if they exist; else deleted")
    parser.add_argument("--documents", type=int, default=8, help="in a step")
    parser.add_argument("--length", type=int, help="of a document, in tokens (default: 4096)")
    parser.add_argument("--steps", type=int, default=4, help="the first is not timed")
    parser.add_argument("--memory-gib", type=float, help="let each rank allocate at most this much of its GPU")
    parser.add_argument("--lora", action="store_true", help="train adapters, not all weights")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--commit", default="")
    args = parser.parse_args()
    args.length = args.length or (48 if args.tiny else 4096)
    if "RANK" in os.environ:
        return run_rank(args.cases[0], args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "sharded.json").unlink(missing_ok=True)
    worst = 0
    with tempfile.TemporaryDirectory() as temporary:
        given = [*sys.argv[1:], "--bases", str(args.bases or temporary)]
        for case in args.cases or (TINY_CASES if args.tiny else CASES):
            command = [sys.executable, "-m", "perf.train.sharded", *given, "--cases", case]
            worst = max(worst, launch(command, rank_environments(int(case.split("/")[1]), 1, 0, free_address())))
    return worst


if __name__ == "__main__":
    sys.exit(main())
