"""Tokens per second of LoRA training on one GPU at Qwen3-30B-A3B's shapes: Potstill's two trainers, and plain peft.

    python -m perf.train.throughput --out DIR [--cases NAME ...] [--layers 48] [--tokens 16384] [--profile] [--tiny]

Random weights in bfloat16, made on the GPU; rank 32. A step is `--micro-batches` micro-batches, forward and backward,
clipping and AdamW: for Potstill the trainers' own (workloads/train/step.py). `potstill` is the fast trainer, `general`
the general one, which chooses its micro-batches by its own measured first step. The first step is not timed. Writes
DIR/throughput.json and, asked for, the time of each kernel. `share` is the model's arithmetic (nothing recomputed
counted) over the matrix-product rate that the same process measures first. peft runs as its users run it: autocast,
gradient checkpointing, one row per document. `--tiny`: a small model on any device, to try the program.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import torch
from torch.profiler import ProfilerActivity
from transformers import Qwen3MoeForCausalLM

from perf.kernels import kernel_table
from perf.train.shapes import (
    CONFIG,
    as_dict,
    batch_of,
    copy_bytes_per_second,
    equal_lengths,
    flops_of,
    machine,
    matmul_flops_per_second,
    mixed_lengths,
)
from perf.train.trainee import random_rows, shapes, task_of
from workloads.api.units import Lora
from workloads.data.tokens import TokenisedRows
from workloads.train.flat_parameters import FlatParameters
from workloads.train.general.trainer import GeneralTrainer
from workloads.train.kernels.lora import lora_modules
from workloads.train.packed import PackedBatch
from workloads.train.patch import add_lora, lora_parameters, loss_sum_and_count
from workloads.train.ranks import Ranks
from workloads.train.step import optimizer_step

RANK = 32
ATTENTION = ("attention",)
BOTH = ("attention", "experts")
CASES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "potstill, attention+experts, 4096": ("potstill", BOTH, "4096"),
    "potstill, attention+experts, packed 1.5K": ("potstill", BOTH, "packed"),
    "potstill, attention, 4096": ("potstill", ATTENTION, "4096"),
    "potstill, attention, packed 1.5K": ("potstill", ATTENTION, "packed"),
    "general, attention+experts, 4096": ("general", BOTH, "4096"),
    "general, attention+experts, padded 1.5K": ("general", BOTH, "packed"),
    "general, attention, 4096": ("general", ATTENTION, "4096"),
    "general, attention, padded 1.5K": ("general", ATTENTION, "packed"),
    "peft, attention+experts, 4096": ("peft", BOTH, "4096"),
    "peft, attention+experts, padded 1.5K": ("peft", BOTH, "packed"),
    "peft, attention, 4096": ("peft", ATTENTION, "4096"),
    "peft, attention, padded 1.5K": ("peft", ATTENTION, "packed"),
}
Step = Callable[[list[PackedBatch]], None]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(layers: int, tiny: bool) -> Qwen3MoeForCausalLM:
    config = shapes(layers, tiny)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with DEVICE:
        model = Qwen3MoeForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.train()
    return model


def remove_lora(model: torch.nn.Module) -> None:
    for path, module in list(lora_modules(model)):
        model.set_submodule(path, module.base)


def free_memory() -> None:
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(reserved: bool = False) -> float:
    if DEVICE.type == "cpu":
        return 0.0
    return (torch.cuda.max_memory_reserved() if reserved else torch.cuda.max_memory_allocated()) / 2**30


def randomise_b(named: dict[str, torch.nn.Parameter]) -> None:
    with torch.no_grad():
        for name, parameter in named.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.01)


def potstill_step(model: torch.nn.Module, target: tuple[str, ...]) -> tuple[Step, int]:
    """One optimizer step as the trainer makes it, and the number of trainable parameters."""
    add_lora(model, RANK, float(RANK), target)
    named = lora_parameters(model)
    randomise_b(named)
    adapter = FlatParameters(named)
    optimizer = adapter.adamw(weight_decay=0.0)
    ranks = Ranks(0, 1, DEVICE)

    def loss_sum(batch: PackedBatch) -> torch.Tensor:
        return loss_sum_and_count(model, batch)[0]

    def step(batches: list[PackedBatch]) -> None:
        count = sum(batch.supervised_tokens for batch in batches)
        optimizer_step(loss_sum, adapter, optimizer, batches, count, 1e-5, 1.0, ranks, False, lambda: None).wait()

    return step, sum(parameter.numel() for parameter in named.values())


def general_step(model: torch.nn.Module, target: tuple[str, ...], tokens: int) -> tuple[Step, int]:
    """The same of the general trainer; the documents of a step are shared out to its own micro-batches."""
    ranks = Ranks(0, 1, DEVICE)
    inputs = task_of(1, 1, 4096).inputs.model_copy(
        update={"lora": Lora(rank=RANK, alpha=float(RANK), target=target), "trainer": "general"}
    )
    trainer = GeneralTrainer(Path("random"), inputs, ranks, model=model)
    adapter = trainer.add_parameters()
    assert isinstance(adapter, FlatParameters)
    for name, values in adapter.named(adapter.values).items():
        if "lora_B" in name:
            values.normal_(0, 0.01)
    plan = trainer.plan_memory(min(4096, tokens), adapter)
    peak = "not measured" if plan.peak_bytes is None else f"measured at {plan.peak_bytes / 2**30:.1f} GiB"
    print(f"general: {plan.tokens} tokens a micro-batch, checkpointing {plan.checkpointing}, {peak}", flush=True)
    optimizer = adapter.adamw(weight_decay=0.0)

    def step(batches: list[PackedBatch]) -> None:
        rows = rows_of(batches)
        mine = trainer.micro_batches(rows, range(len(rows)), plan.tokens, 0, 1, 1)
        count = sum(batch.supervised_tokens for batch in mine)
        optimizer_step(trainer.loss_sum, adapter, optimizer, mine, count, 1e-5, 1.0, ranks, False, lambda: None).wait()

    return step, sum(slot.size for slot in adapter.slots.values())


def rows_of(batches: list[PackedBatch]) -> TokenisedRows:
    """The documents of packed micro-batches, each with a prompt of one token."""
    lengths = [length for batch in batches for length in batch.document_lengths]
    ids = torch.cat([batch.input_ids for batch in batches]).cpu().numpy()
    return replace(random_rows(lengths, 2, 0), tokens=ids.astype("int32"))


def peft_step(model: torch.nn.Module, target: tuple[str, ...]) -> tuple[Step, int]:
    from peft import LoraConfig, get_peft_model

    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"] if "experts" in target else None
    config = LoraConfig(
        r=RANK, lora_alpha=RANK, lora_dropout=0.0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        target_parameters=parameters, task_type="CAUSAL_LM",
    )  # fmt: skip
    wrapped = get_peft_model(model, config)
    wrapped.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    wrapped.train()
    named = {name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    randomise_b(named)
    optimizer = torch.optim.AdamW(named.values(), lr=1e-5, fused=DEVICE.type == "cuda")

    def backward(batch: PackedBatch, share: float) -> None:
        pieces = torch.split(batch.input_ids, list(batch.document_lengths))
        ids = torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
        labels = torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True, padding_value=-100)
        mask = None if len(set(batch.document_lengths)) == 1 else (labels >= 0).long()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            loss = wrapped(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        (loss * share).backward()

    def step(batches: list[PackedBatch]) -> None:
        for batch in batches:
            backward(batch, 1 / len(batches))
        torch.nn.utils.clip_grad_norm_(list(named.values()), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, sum(parameter.numel() for parameter in named.values())


def wait_for_device() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds_of_step(step: Step, batches: list[PackedBatch]) -> float:
    wait_for_device()
    start = time.perf_counter()
    step(batches)
    wait_for_device()
    return time.perf_counter() - start


def profile(step: Step, batches: list[PackedBatch], path: Path) -> None:
    """Writes the device time of each kernel over one step."""
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as trace:
        step(batches)
        torch.cuda.synchronize()
    lines = kernel_table(trace, f"one step of {len(batches)} micro-batches")
    path.write_text("\n".join(lines) + "\n")
    print(lines[0], flush=True)


def batches_for(kind: str, tokens: int, count: int, vocabulary: int) -> list[PackedBatch]:
    lengths = [
        equal_lengths(tokens, min(4096, tokens)) if kind == "4096" else mixed_lengths(tokens, seed)
        for seed in range(count)
    ]
    return [batch_of(row, vocabulary, seed).to(DEVICE) for seed, row in enumerate(lengths)]


def run_case(
    model: Qwen3MoeForCausalLM, name: str, args: argparse.Namespace, tokens: int, peak_rate: float
) -> dict[str, object]:
    system, target, kind = CASES[name]
    free_memory()
    if system == "general":
        step, parameters = general_step(model, target, tokens)
    else:
        step, parameters = (potstill_step if system == "potstill" else peft_step)(model, target)
    batches = batches_for(kind, tokens, 2 if system == "peft" else args.micro_batches, model.config.vocab_size)
    first = seconds_of_step(step, [*batches[:1], *batches[-1:]])
    free_memory()
    times = [seconds_of_step(step, batches) for _ in range(args.steps)]
    seconds = median(times)
    flops = [flops_of(model.config, batch, RANK, "experts" in target) for batch in batches]
    total_tokens, total = sum(batch.tokens for batch in batches), sum(f.total for f in flops)
    result: dict[str, object] = {
        "case": name,
        "tokens_per_second": total_tokens / seconds,
        "tflops": total / seconds / 1e12,
        "share": total / seconds / peak_rate,
        "peak_gib": peak_gib(),
        "reserved_gib": peak_gib(reserved=True),
        "tokens_per_micro_batch": tokens,
        "documents": [len(batch.document_lengths) for batch in batches],
        "step_seconds": times,
        "first_step_seconds": first,
        "flops_of_first_micro_batch": as_dict(flops[0]),
        "trainable_parameters": parameters,
    }
    if args.profile and system == "potstill":
        slug = name.replace(", ", "-").replace(" ", "-").replace("+", "-")
        profile(step, batches[:2], args.out / f"profile-{slug}.txt")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", default=list(CASES), help="parts of the names of the cases to run")
    parser.add_argument("--layers", type=int, default=CONFIG.num_hidden_layers)
    parser.add_argument("--tokens", type=int, default=16_384, help="per micro-batch")
    parser.add_argument("--micro-batches", type=int, default=4, help="per optimizer step")
    parser.add_argument("--steps", type=int, default=2, help="timed")
    parser.add_argument("--commit", default="")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a small model, to try the program on a CPU")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    on_gpu = DEVICE.type == "cuda"
    rate = matmul_flops_per_second() if on_gpu else float("inf")
    report: dict[str, object] = {
        "machine": machine() if on_gpu else "cpu", "commit": args.commit, "layers": args.layers, "rank": RANK,
        "matmul_tflops": rate / 1e12, "copy_terabytes_per_second": copy_bytes_per_second() / 1e12 if on_gpu else 0.0,
    }  # fmt: skip
    print(json.dumps(report), flush=True)
    results: list[dict[str, object]] = []
    report["cases"] = results
    model, built_for = None, ""
    for name in CASES:
        if not any(part in name for part in args.cases):
            continue
        system = CASES[name][0]
        if model is None or system != "potstill" or built_for != system:
            model = None
            free_memory()
            model, built_for = build(args.layers, args.tiny), system
        elif built_for == "potstill":
            remove_lora(model)
        tokens = args.tokens
        while True:
            try:
                result = run_case(model, name, args, tokens, rate)
                break
            except torch.OutOfMemoryError as error:
                print(f"{name}: {tokens} tokens do not fit: {str(error)[:150]}", flush=True)
                result, tokens = {"case": name, "out_of_memory_tokens": tokens}, tokens // 2
                results.append(result)
                if tokens < 4096:
                    break
            model = None
            free_memory()
            model = build(args.layers, args.tiny)
        if "tokens_per_second" in result:
            results.append(result)
            print(
                f"{name:44} {result['tokens_per_second']:9.0f} tokens/s {result['tflops']:6.0f} TFLOP/s "
                f"{result['share']:6.1%} peak {result['peak_gib']:6.1f} GiB  {tokens} tokens",
                flush=True,
            )
        (args.out / "throughput.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
