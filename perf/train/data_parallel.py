"""One GPU against several on the same steps: loss, gradient, tokens per second, and what the all-reduce costs.

    python -m perf.train.data_parallel --out DIR [--processes 2] [--layers 24] [--tokens 16384] [--cases 4096 packed]

Ranks are started by the trainer's launcher, documents divided, packed, computed and summed by its loop. First rank 0
trains alone while the others wait, then all of them train, from the same adapter on the same documents: 50 a step,
as a run has them. The gradient of the first step is compared element by element; what one GPU differs from itself
when its micro-batches are cut otherwise is the measure for it (in bfloat16, ties between experts break otherwise).
Writes DIR/data-parallel.json after every part. Ends with status 1 if a comparison fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from perf.train.trainee import Trainee, build, memory_of, random_rows, shapes, task_of, training  # isort: skip

import torch

from perf.train.shapes import machine, mixed_lengths
from workloads.data.tokens import TokenisedRows
from workloads.train.batches import micro_batches, supervised_tokens
from workloads.train.launch import free_address, launch, rank_environments
from workloads.train.metrics import Metric
from workloads.train.ranks import Ranks, join_ranks
from workloads.train.step import optimizer_step

LOSS_TOLERANCE, NORM_TOLERANCE = 1e-3, 1e-2
"""Relative, at every compared step."""
GRADIENT_TOLERANCE = 0.05
"""Norm of the difference of the first step's gradients over the gradient's norm."""
REDUCTIONS = 10


def document_lengths(case: str, args: argparse.Namespace) -> list[int]:
    if case == "4096":
        return [args.length] * args.documents
    mean, lowest = args.length * 3 // 8, args.length // 20
    wanted = mixed_lengths(args.documents * args.length, 0, mean, lowest, highest=args.length)
    return list(wanted[: args.documents])


def wait_for_all(ranks: Ranks) -> None:
    meeting = torch.zeros(1, device=ranks.device)
    ranks.sum(meeting)
    meeting.item()


def first_gradient(trainee: Trainee, rows: TokenisedRows, ranks: Ranks, tokens: int) -> tuple[float, float]:
    """(loss, gradient norm) of the first step, its gradient left in the adapter, nothing learned."""
    everything = range(len(rows))
    count = supervised_tokens(rows, everything)
    batches = micro_batches(rows, everything, tokens, ranks.rank, ranks.count)
    trainee.begin_again()
    optimizer = trainee.adapter.adamw(weight_decay=0.0)
    reading = optimizer_step(
        trainee.loss_sum, trainee.adapter, optimizer, batches, count, 0.0, 0.0, ranks, False, lambda: None
    )
    loss_sum, norm, _ = reading.wait()
    return loss_sum / count, norm


def distance(trainee: Trainee, reference: torch.Tensor) -> float:
    gradient = trainee.adapter.gradients
    return float(torch.linalg.vector_norm(gradient - reference) / torch.linalg.vector_norm(reference))


def compare_gradients(trainee: Trainee, rows: TokenisedRows, ranks: Ranks, tokens: int) -> dict[str, object]:
    alone = Ranks(0, 1, ranks.device)
    if ranks.leads:
        one = first_gradient(trainee, rows, alone, tokens)
        reference = trainee.adapter.gradients.clone()
        again = first_gradient(trainee, rows, alone, tokens // 2)
        itself = distance(trainee, reference)
    wait_for_all(ranks)
    together = first_gradient(trainee, rows, ranks, tokens)
    if not ranks.leads:
        return {}
    return {
        "loss": {"one": one[0], "one, half micro-batches": again[0], "all": together[0]},
        "norm": {"one": one[1], "one, half micro-batches": again[1], "all": together[1]},
        "gradient_distance": {"one, half micro-batches": itself, "all": distance(trainee, reference)},
    }


def steps_of(trainee: Trainee, rows: TokenisedRows, ranks: Ranks, tokens: int, steps: int) -> list[Metric]:
    """The trainer's metrics of `steps` steps, each over all of `rows`."""
    run = training(trainee, task_of(len(rows), steps, int(rows.kept.max())), rows, ranks, tokens)
    run.run()
    return run.metrics


def seconds_of(metrics: list[Metric]) -> list[float]:
    """But for the first step, which the device begins cold."""
    return [metric.tokens / metric.tokens_per_second for metric in metrics[1:]]


def all_reduce(trainee: Trainee, ranks: Ranks) -> dict[str, object]:
    """The gradient's, alone: the seconds from when all ranks are there."""
    times = []
    for _ in range(REDUCTIONS):
        wait_for_all(ranks)
        start = time.perf_counter()
        ranks.sum(trainee.adapter.reduced)
        trainee.adapter.reduced[-1].item()
        times.append(time.perf_counter() - start)
    size = trainee.adapter.reduced.nbytes
    moved = size * 2 * (ranks.count - 1) / ranks.count
    return {"bytes": size, "seconds": times, "bus_gigabytes_per_second": moved / median(times) / 1e9}


def run_case(
    case: str, trainee: Trainee, ranks: Ranks, args: argparse.Namespace, save: Callable[[], None], into: dict[str, Any]
) -> None:
    """Adds the case's results to `into`, part by part. Every rank does the same, the others' results are dropped."""
    lengths = document_lengths(case, args)
    rows = random_rows(lengths, trainee.config.vocab_size, seed=0)
    into |= {"documents": len(lengths), "tokens": sum(lengths), "tokens_per_micro_batch": args.tokens}
    everything = range(len(rows))
    into["micro_batches"] = {
        f"{rank} of {count}": [batch.tokens for batch in micro_batches(rows, everything, args.tokens, rank, count)]
        for count in (1, ranks.count)
        for rank in range(count)
    }
    into |= compare_gradients(trainee, rows, ranks, args.tokens)
    save()
    alone = steps_of(trainee, rows, Ranks(0, 1, ranks.device), args.tokens, args.steps) if ranks.leads else []
    wait_for_all(ranks)
    together = steps_of(trainee, rows, ranks, args.tokens, 2 * args.steps - 1)
    if ranks.leads:
        into |= speeds(alone, together)
    into["all_reduce"] = all_reduce(trainee, ranks)
    save()


def speeds(alone: list[Metric], together: list[Metric]) -> dict[str, object]:
    one, several = (seconds_of(metrics) for metrics in (alone, together))
    pairs = list(zip(alone, together, strict=False))
    tokens = alone[0].tokens
    return {
        "losses": [[a.loss, b.loss] for a, b in pairs],
        "norms": [[a.gradient_norm, b.gradient_norm] for a, b in pairs],
        "step_seconds": {"one": one, "all": several},
        "tokens_per_second": {"one": tokens / median(one), "all": tokens / median(several)},
        "ratio": median(one) / median(several),
    }


def worst(pairs: list[list[float]]) -> float:
    return max(abs(a - b) / abs(a) for a, b in pairs)


def comparisons(result: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(what, how far apart, tolerance) of a case."""
    losses, norms = result["loss"], result["norm"]
    return [
        ("gradient of the first step", result["gradient_distance"]["all"], GRADIENT_TOLERANCE),
        ("loss of the first step", worst([[losses["one"], losses["all"]]]), LOSS_TOLERANCE),
        ("gradient norm of the first step", worst([[norms["one"], norms["all"]]]), NORM_TOLERANCE),
        (f"losses of {len(result['losses'])} steps", worst(result["losses"]), LOSS_TOLERANCE),
        (f"gradient norms of {len(result['norms'])} steps", worst(result["norms"]), NORM_TOLERANCE),
    ]


def tell(case: str, result: dict[str, Any]) -> bool:
    """Prints a case; whether its comparisons hold."""
    rate, ring = result["tokens_per_second"], result["all_reduce"]
    share = median(ring["seconds"]) / median(result["step_seconds"]["all"])
    print(
        f"{case}: {rate['one']:.0f} tokens/s on one, {rate['all']:.0f} on all, ratio {result['ratio']:.3f}; all-reduce "
        f"{ring['bytes'] / 1e9:.2f} GB in {1e3 * median(ring['seconds']):.1f} ms, "
        f"{ring['bus_gigabytes_per_second']:.0f} GB/s, {share:.2%} of a step",
        flush=True,
    )
    checks = comparisons(result)
    for what, apart, tolerance in checks:
        print(f"  {'ok  ' if apart <= tolerance else 'FAIL'} {what}: {apart:.2e}, at most {tolerance:.0e}", flush=True)
    itself = result["gradient_distance"]["one, half micro-batches"]
    print(f"       (one GPU against itself with half micro-batches: gradient {itself:.2e})", flush=True)
    return all(apart <= tolerance for _, apart, tolerance in checks)


def run_rank(args: argparse.Namespace) -> int:
    good = True
    with join_ranks() as ranks:
        began = time.monotonic()
        trainee = build(shapes(args.layers, args.tiny), ranks)
        wait_for_all(ranks)
        memory = memory_of(trainee.config)
        report: dict[str, Any] = {
            "machine": machine() if ranks.device.type == "cuda" else {}, "commit": args.commit, "ranks": ranks.count,
            "layers": args.layers, "parameters": trainee.adapter.values.numel(),
            "predicted_gib": memory.total(args.tokens) / 2**30, "build_seconds": time.monotonic() - began, "cases": {},
        }  # fmt: skip

        def save() -> None:
            if ranks.leads:
                if ranks.device.type == "cuda":
                    free, total = torch.cuda.mem_get_info()
                    report["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
                    report["beside_pytorch_gib"] = (total - free - torch.cuda.memory_reserved()) / 2**30
                report["seconds"] = time.monotonic() - began
                (args.out / "data-parallel.json").write_text(json.dumps(report, indent=1) + "\n")

        save()
        for case in args.cases:
            result = report["cases"].setdefault(case, {})
            run_case(case, trainee, ranks, args, save, result)
            if ranks.leads:
                good = tell(case, result) and good
                print(f"  after {time.monotonic() - began:.0f} s", flush=True)
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=16_384, help="per micro-batch, at most")
    parser.add_argument("--documents", type=int, default=50, help="per step")
    parser.add_argument("--length", type=int, default=4096, help="of a document, in tokens; packed: the longest")
    parser.add_argument("--steps", type=int, default=4, help="on one GPU; the first is not timed")
    parser.add_argument("--cases", nargs="*", choices=("4096", "packed"), default=["4096", "packed"])
    parser.add_argument("--tiny", action="store_true", help="a small model, to try the program on CPUs")
    parser.add_argument("--commit", default="")
    args = parser.parse_args()
    if "RANK" in os.environ:
        return run_rank(args)
    args.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "perf.train.data_parallel", *sys.argv[1:]]
    return launch(command, rank_environments(args.processes, 1, 0, free_address()))


if __name__ == "__main__":
    sys.exit(main())
