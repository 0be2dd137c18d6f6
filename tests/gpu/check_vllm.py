"""A real vLLM on a CUDA device against transformers on the CPU: `python -m tests.gpu.check_vllm --out DIR`.

Small random bases, dense and of experts, with adapters of the attention, of the feed-forward layers and of both, served
from slots and merged into the weights. Log-probabilities and greedy tokens against the merged transformers model in
float32, up to a near-tie, which is shown; each adapter alone against the same among its neighbours; spoiled adapters
against the canary. Every case is a separate process. Ends with status 1 if a check failed. `--device two-cuda` runs
cases whose weights are split over two GPUs, `--device cpu` what vLLM can do on a CPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.evaluate.models import edit_adapter, edit_config, write_adapter, write_dense, write_moe
from tests.evaluate.test_canary import canaries_of
from workloads.api.units import EngineIdentity
from workloads.engines.base import Adapter, Decoding, Demands, Engine, Finished, Request
from workloads.engines.transformers.engine import TransformersEngine
from workloads.evaluate.canary import check_canaries, coarsest_dtype
from workloads.models.adapters import check_adapter
from workloads.models.shapes import read_shapes
from workloads.text.tokenizer import load_tokenizer

RANK = 8
ENGINE = {"name": "vllm", "version": "any"}
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "head_dim": 64,
    "intermediate_size": 192,
    "initializer_range": 0.1,
    "max_position_embeddings": 512,
}
EXPERTS: dict[str, Any] = {"num_experts": RANK, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
"""The number of experts equals the rank, so that swapped axes would not change a shape."""
NEAR_TIE_NATS = {"float32": 1e-3, "float16": 5e-1, "bfloat16": 6e-1, "fp8": 1.0}
ERROR_NATS = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 1e-1, "fp8": 2.5e-1}
"""Root mean square over the 1,512 tokens of an adapter. In 16 bits a router now and then takes another expert than in 32:
that token is then off by up to a nat, which alone makes 0.026.
"""
NEARER = {"float32": 4, "float16": 4, "bfloat16": 4, "fp8": 1.5}
"""How many times nearer the result must be to the adapter's log-probabilities than to the base's."""
EQUAL_SHARE = {"float32": 0.75, "float16": 0.5, "bfloat16": 0.25, "fp8": 0.0}
"""The least share of equal outputs. It is low because a base of random weights has many near ties."""
PROMPTS = [
    "2 + 2 =",
    "a",
    "The longest of these prompts, by far.",
    "x" * 17,
    "Solve: 17 * 23",
    "def f(x):",
    "<think>",
    "qed",
]
GREEDY = Decoding(temperature=0.0, top_p=1.0, limit_tokens=48, stop_token_ids=(256, 258))


@dataclass(frozen=True)
class Case:
    """An engine. `among`: whether outputs must be the same bits alone and among neighbours."""

    name: str
    kind: str
    dtype: str
    flags: dict[str, Any] = field(default_factory=dict)
    among: bool = False

    @property
    def coarsest(self) -> str:
        return coarsest_dtype(EngineIdentity.model_validate({**ENGINE, "dtype": self.dtype, "flags": self.flags}))


GRAPHS = {"enforce_eager": False}
MERGED = {"merge_adapters": True}
SPLIT = {"tensor_parallel_size": 2}
FP8 = {"kv_cache_dtype": "fp8"}
CASES = {
    "cuda": [
        Case("dense served float16", "dense", "float16"),
        Case("moe served float16", "moe", "float16"),
        Case("moe served bfloat16, graphs", "moe", "bfloat16", GRAPHS),
        Case("moe served bfloat16, invariant", "moe", "bfloat16", {"batch_invariant": True}, among=True),
        Case("moe merged float16", "moe", "float16", MERGED),
        Case("moe merged bfloat16, graphs", "moe", "bfloat16", MERGED | GRAPHS),
        Case("dense merged bfloat16, graphs", "dense", "bfloat16", MERGED | GRAPHS),
        Case("moe merged bfloat16, invariant", "moe", "bfloat16", MERGED | {"batch_invariant": True}, among=True),
        Case("dense served fp8 keys and values, graphs", "dense", "bfloat16", FP8 | GRAPHS),
        Case("moe served fp8 keys and values, graphs", "moe", "bfloat16", FP8 | GRAPHS),
        Case("moe merged fp8 keys and values, graphs", "moe", "bfloat16", FP8 | MERGED | GRAPHS),
    ],
    "two-cuda": [
        Case("moe served float16, two GPUs", "moe", "float16", SPLIT),
        Case("moe served bfloat16, graphs, two GPUs", "moe", "bfloat16", SPLIT | GRAPHS),
        Case("dense merged bfloat16, graphs, two GPUs", "dense", "bfloat16", SPLIT | MERGED | GRAPHS),
        Case("moe merged float16, two GPUs", "moe", "float16", SPLIT | MERGED),
        Case("moe merged bfloat16, graphs, two GPUs", "moe", "bfloat16", SPLIT | MERGED | GRAPHS),
    ],
    "cpu": [
        Case("dense served float32", "dense", "float32", among=True),
        Case("moe merged float32", "moe", "float32", MERGED),
        Case("moe merged bfloat16", "moe", "bfloat16", MERGED),
        Case("dense served fp8 keys and values", "dense", "bfloat16", FP8),
        Case("moe merged fp8 keys and values", "moe", "bfloat16", FP8 | MERGED),
    ],
}


@dataclass
class Checks:
    out: Path
    case: str
    failed: int = 0

    def check(self, name: str, good: bool, **facts: Any) -> None:
        self.failed += not good
        line = {"case": self.case, "check": name, "good": good, **facts}
        with self.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        told = ", ".join(
            f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()
        )
        print(f"{'ok  ' if good else 'FAIL'} {self.case}: {name}: {told}", flush=True)


def run_case(case: Case, device: str, out: Path) -> int:
    checks = Checks(out, case.name)
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        base = root / "base"
        base.mkdir()
        (write_moe if case.kind == "moe" else write_dense)(base, **SIZES, **(EXPERTS if case.kind == "moe" else {}))
        store_as(base, case.dtype)
        shapes, tokenizer = read_shapes(base), load_tokenizer(base)
        made = {only or "all": write_adapter(root / f"a-{only}", base, seed=number, rank=RANK, size=0.08, only=only)
                for number, only in enumerate(("", "self_attn", "mlp"), 1)}  # fmt: skip
        made["all again"] = write_adapter(root / "again", base, seed=9, rank=RANK, size=0.08)
        for directory in made.values():
            edit_adapter(directory, as_dtype(case.dtype))
        variants: list[Adapter | None] = [None, *(check_adapter(name, path, shapes) for name, path in made.items())]
        small = TransformersEngine(base, tokenizer, "float32", {})
        began = time.monotonic()
        engine = start(case, device, base)
        checks.check("starts", True, seconds=round(time.monotonic() - began, 1), versions=engine.versions)
        try:
            log_probs(checks, case, engine, small, variants)
            tokens = generate(checks, case, engine, small, variants)
            alone(checks, case, engine, small, variants, tokens)
            canary(checks, case, engine, base, root)
        finally:
            engine.close()
    return checks.failed


def start(case: Case, device: str, base: Path) -> Engine:
    import vllm

    from workloads.engines.vllm.engine import VllmEngine

    flags = {"kv_cache_gib": 0.25, "max_num_seqs": 64, "max_loras": 2, "enforce_eager": True, **case.flags}
    if device != "cpu":
        flags["gpu_memory_utilization"] = 0.1
    gpu = "cpu" if device == "cpu" else "NVIDIA H100"
    asked = EngineIdentity(name="vllm", version=vllm.__version__, dtype=case.dtype, gpu=gpu, flags=flags)
    return VllmEngine.start(asked, base, read_shapes(base), load_tokenizer(base), Demands(256, RANK, "all"))


def store_as(base: Path, dtype: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    save_file({name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}, base / "model.safetensors")


def as_dtype(dtype: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            tensors[name] = tensor.to(getattr(torch, dtype))

    return change


def label(adapter: Adapter | None) -> str:
    return adapter.name if adapter else "base"


def log_probs(
    checks: Checks, case: Case, engine: Engine, small: TransformersEngine, variants: Sequence[Adapter | None]
) -> None:
    """Compares the log-probabilities of 24 random sequences of 64 tokens, with every adapter."""
    generator = torch.Generator().manual_seed(0)
    sequences = torch.randint(0, 256, (24, 64), generator=generator).tolist()
    expected = {label(adapter): flat(small.log_probs(sequences, adapter)) for adapter in variants}
    for adapter in variants:
        found = flat(engine.log_probs(sequences, adapter))
        error, to_base = rms(found - expected[label(adapter)]), rms(found - expected["base"])
        gap = rms(expected[label(adapter)] - expected["base"])
        good = error <= ERROR_NATS[case.coarsest] and (adapter is None or error < to_base / NEARER[case.coarsest])
        largest = float((found - expected[label(adapter)]).abs().max())
        checks.check(f"log-probabilities of {label(adapter)}", good, rms=error, largest=largest, base_is_away=gap)


def flat(scores: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor([value for sequence in scores for value in sequence])


def rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def ask(engine: Engine, variants: Sequence[Adapter | None]) -> dict[str, Finished]:
    for adapter in variants:
        for prompt in PROMPTS:
            name = label(adapter)
            engine.submit(Request(f"{name}/{prompt}", name, tuple(prompt.encode()), adapter, GREEDY, 1))
    found: dict[str, Finished] = {}
    while engine.pending:
        found |= {finished.id: finished for finished in engine.step()}
    return found


def ties(
    small: TransformersEngine,
    variants: Sequence[Adapter | None],
    ours: dict[str, Finished],
    theirs: dict[str, Finished],
) -> list[float]:
    """For each output that differs, how far apart in nats the reference holds the two tokens where it first does."""
    found = []
    for adapter in variants:
        for prompt in PROMPTS:
            key = f"{label(adapter)}/{prompt}"
            pairs = zip(ours[key].token_ids, theirs[key].token_ids, strict=False)
            place = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
            if place is not None:
                start = [*prompt.encode(), *theirs[key].token_ids[:place]]
                choices = [finished[key].token_ids[place] for finished in (ours, theirs)]
                scores = [small.log_probs([[*start, choice]], adapter)[0][-1] for choice in choices]
                found.append(abs(scores[0] - scores[1]))
            elif ours[key].token_ids != theirs[key].token_ids:
                found.append(float("inf"))
    return sorted(found)


def generate(
    checks: Checks, case: Case, engine: Engine, small: TransformersEngine, variants: Sequence[Adapter | None]
) -> dict[str, Finished]:
    """Greedy outputs of all adapters and the base in one queue, more adapters than slots."""
    ours, theirs = ask(engine, variants), ask(small, variants)
    found = ties(small, variants, ours, theirs)
    good = all(tie <= NEAR_TIE_NATS[case.coarsest] for tie in found) and len(ours) - len(found) >= EQUAL_SHARE[
        case.coarsest
    ] * len(ours)
    texts = {tuple(ours[f"{label(a)}/{p}"].token_ids for p in PROMPTS) for a in variants}
    checks.check(
        "greedy tokens up to a near-tie",
        good and len(texts) == len(variants),
        outputs=len(ours),
        equal=len(ours) - len(found),
        ties_nats=[round(tie, 4) for tie in found],
    )
    return ours


def alone(
    checks: Checks,
    case: Case,
    engine: Engine,
    small: TransformersEngine,
    variants: Sequence[Adapter | None],
    among: dict[str, Finished],
) -> None:
    for adapter in (None, variants[1]):
        found = ask(engine, [adapter])
        different = ties(small, [adapter], {key: among[key] for key in found}, found)
        good = not different if case.among else all(tie <= NEAR_TIE_NATS[case.coarsest] for tie in different)
        must = "equal" if case.among else "up to a near-tie"
        checks.check(f"{label(adapter)} alone and among neighbours, {must}", good, ties_nats=different)


def canary(checks: Checks, case: Case, engine: Engine, base: Path, root: Path) -> None:
    """What the trainer would publish of a true adapter, against the engine with this one and with spoiled ones."""
    shapes, spoils = read_shapes(base), dict[str, Callable[[Path], None]]()
    spoils["whole"] = lambda directory: None
    spoils["wrong scale"] = lambda directory: edit_config(directory, lora_alpha=11.0)
    spoils["no feed-forward"] = lambda directory: edit_adapter(directory, without_feed_forward)
    if case.kind == "moe":
        spoils["swapped axes"] = lambda directory: edit_adapter(directory, swap_axes)
    for name, spoil in spoils.items():
        directory = write_adapter(root / f"canary {name}", base, seed=8, rank=RANK, size=0.08)
        edit_adapter(directory, as_dtype(case.dtype))
        if name == "whole":
            small = TransformersEngine(base, load_tokenizer(base), "float32", {})
            small.load(check_adapter(name, directory, shapes))
            canaries = canaries_of(base, small._model)
        spoil(directory)
        scores = engine.log_probs([one.token_ids for one in canaries], check_adapter(name, directory, shapes))
        result = check_canaries(canaries, scores, case.coarsest)
        good = result.passed == (name == "whole")
        word = "passes" if name == "whole" else "is caught"
        checks.check(f"canary: {name} {word}", good, error=result.error, gap=result.gap, tolerance=result.tolerance)


def without_feed_forward(tensors: dict[str, Tensor]) -> None:
    for key in tensors:
        if ".mlp." in key:
            tensors[key].zero_()


def swap_axes(tensors: dict[str, Tensor]) -> None:
    """Experts and ranks exchanged in B of every layer's down projections."""
    for layer in range(3):
        keys = [
            f"base_model.model.model.layers.{layer}.mlp.experts.{expert}.down_proj.lora_B.weight"
            for expert in range(RANK)
        ]
        stacked = torch.stack([tensors[key] for key in keys])
        for key, swapped in zip(keys, stacked.permute(2, 1, 0), strict=True):
            tensors[key] = swapped.contiguous()


def run_apart(case: Case, device: str, out: Path, seconds: float) -> int:
    command = [sys.executable, "-m", "tests.gpu.check_vllm", "--device", device, "--case", case.name, "--out", str(out)]
    log = out / (case.name.replace(" ", "-").replace(",", "") + ".log")
    with log.open("w") as file:
        try:
            code = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds, env=os.environ
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
    lines = [line for line in log.read_text().splitlines() if line.startswith(("ok  ", "FAIL"))]
    print("\n".join(lines), flush=True)
    if code not in (0, 1) or not lines:
        print(f"FAIL {case.name}: exit {code}\n" + "\n".join(log.read_text().splitlines()[-25:]), flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=sorted(CASES), default="cuda")
    parser.add_argument("--case", help="only this one, in this process")
    parser.add_argument("--together", type=int, default=1, help="cases at a time")
    parser.add_argument("--seconds", type=float, default=300.0, help="for a case")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cases = {case.name: case for case in CASES[options.device]}
    if options.case:
        return 1 if run_case(cases[options.case], options.device, options.out / "check-vllm.jsonl") else 0
    with ThreadPoolExecutor(options.together) as pool:
        codes = list(
            pool.map(lambda case: run_apart(case, options.device, options.out, options.seconds), cases.values())
        )
    bad = [name for name, code in zip(cases, codes, strict=True) if code]
    print(f"{len(bad)} of {len(cases)} cases failed: {bad}" if bad else f"all checks of {len(cases)} cases hold")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
