"""The experiment of 16/02, whole, on one machine: `python -m perf.whole --out OUT --folder DIR`.

The specification is examples/distill-16-02.yaml with all its runs, checkpoints, benchmarks and budgets, with three
differences: the base has random weights of the same shapes and `--layers` of their layers, the data sets are made up,
and the runs train a `--share` of their samples. `potstill run` then trains, evaluates, grades and reports. `--seconds`
bounds the run. The results say nothing about quality. Outputs of random weights seldom end before the limit, so
generation costs the most that it can.

OUT gets whole.json (versions, commit, seconds, states), run.log (what `potstill run` printed), manifest.json and
report.md. The status is that of `potstill run`. A small run on a CPU:

    python -m perf.whole --out OUT --folder DIR --shapes tiny-moe --engine transformers --shrink 8 --problems 2
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from controller.executors.local.machine import installed_gpus
from perf.evaluate.bases import SHAPES, write_weights

EXAMPLE = Path("examples/distill-16-02.yaml")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
KEPT_BY_FILTER = 0.2
"""Rows of at most half of the longest sequence, at least: enough for the runs that drop longer ones."""
PACKAGES = ("torch", "triton", "vllm", "transformers", "peft", "flashinfer-python", "math-verify")


def main() -> int:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    config = SHAPES[options.shapes] | ({"num_hidden_layers": options.layers} if options.layers else {})
    write_base(options.folder / "base", config)
    spec = specification(options)
    longest = max(run["sequenceTokens"] for run in spec["spec"]["runs"])
    rows = round(max(run["samples"] for run in spec["spec"]["runs"]) / KEPT_BY_FILTER)
    for number, name in enumerate(spec["spec"]["data"]):
        write_rows(options.folder / f"{name}.jsonl", rows, longest, seed=number)
    file, profile, store = (options.folder / name for name in ("experiment.yaml", "profile.yaml", "store"))
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    profile.write_text(yaml.safe_dump(profile_of(options, config["torch_dtype"])))
    command = [sys.executable, "-P", "-m", "controller.cli", "run", str(file), "--store", str(store)]
    began = time.monotonic()
    with (options.out / "run.log").open("w") as log:
        process = subprocess.Popen([*command, "--profile", str(profile)], stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait(options.seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            code = process.wait()
    seconds = time.monotonic() - began
    (manifest,) = [*store.glob("experiments/*/*/manifest.json"), None][:1]
    found = outcome(json.loads(manifest.read_text())) if manifest else {}
    about = {
        "seconds": round(seconds, 1),
        "exit": code,
        "share": options.share,
        "shapes": options.shapes,
        "layers": config["num_hidden_layers"],
        "budgets": spec["spec"]["evaluation"]["budgets"],
        "engine": profile_of(options, config["torch_dtype"])["engine"],
        "gpus": [gpu.name for gpu in installed_gpus()],
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
        "commit": options.commit,
        **found,
    }
    (options.out / "whole.json").write_text(json.dumps(about, indent=1) + "\n")
    for path in [] if manifest is None else [manifest, manifest.parent / "report" / "report.md"]:
        if path.is_file():
            shutil.copy(path, options.out / path.name)
    print(json.dumps(about, indent=1))
    print((options.out / "run.log").read_text()[-3000:])
    return code


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="results")
    parser.add_argument("--folder", type=Path, required=True, help="base, data and store; a tmpfs saves time")
    parser.add_argument("--shapes", choices=list(SHAPES), default="qwen3-30b-a3b")
    parser.add_argument("--layers", type=int, help="default: those of the shapes")
    parser.add_argument("--share", type=float, default=0.04, help="of the samples of every run")
    parser.add_argument("--shrink", type=int, default=1, help="divides sequences and budgets")
    parser.add_argument("--problems", type=int, help="of each benchmark; default: as in the experiment")
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--gpu", default="NVIDIA H200", help="as the engine's digest names it")
    parser.add_argument("--flag", action="append", default=[], help="NAME=VALUE of the engine")
    parser.add_argument("--seconds", type=float, default=3600.0, help="the run is told to end after so long")
    parser.add_argument("--commit", default="unknown")
    return parser.parse_args()


def specification(options: argparse.Namespace) -> dict[str, Any]:
    """The experiment's own file, with this base and data, fewer samples and, when shrunk, fewer tokens and problems."""
    spec: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    spec["metadata"]["name"] = "whole-16-02"
    inner = spec["spec"]
    inner["base"] = {"model": "base"}
    for name, data in inner["data"].items():
        data.pop("sha256")
        data["uri"] = f"{name}.jsonl"
    for run in inner["runs"]:
        batch = inner["training"]["batchSize"]
        every, samples = run["checkpointEverySamples"], run["samples"]
        run["checkpointEverySamples"] = batch * max(1, round(every * options.share / batch))
        run["samples"] = run["checkpointEverySamples"] * (samples // every)
        run["sequenceTokens"] //= options.shrink
    evaluation = inner["evaluation"]
    evaluation["budgets"] = [budget // options.shrink for budget in evaluation["budgets"]]
    for benchmark in evaluation["benchmarks"]:
        if options.problems is not None:
            for key in ("checkpoints", "base"):
                benchmark.pop(key)
            benchmark["limit"] = options.problems
    return spec


def profile_of(options: argparse.Namespace, dtype: str) -> dict[str, Any]:
    engine = {"name": options.engine, "version": installed(options.engine), "dtype": dtype}
    if options.engine == "vllm":
        engine["flags"] = {name: typed(value) for name, _, value in (f.partition("=") for f in options.flag)}
    return {
        "name": "one-gpu",
        "gpu": options.gpu if options.engine == "vllm" else "cpu",
        "precision": "bfloat16" if dtype == "bfloat16" else "float32",
        "engine": engine,
    }


def typed(value: str) -> Any:
    return yaml.safe_load(value)


def installed(name: str) -> str | None:
    """The version by the package's metadata, the first on the path."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_base(directory: Path, config: dict[str, Any]) -> None:
    """Random weights, and a tokenizer of one token a byte. Only outputs hold the rest of the vocabulary."""
    if (directory / "tokenizer.json").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fillers = (f"word{number}" for number in range(config["vocab_size"] - len(alphabet) - len(SPECIAL)))
    vocabulary = {token: number for number, token in enumerate([*alphabet, *fillers])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    ends = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|im_end|>")]
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})
    )
    write_weights(directory, config)
    tokenizer.save(str(directory / "tokenizer.json"))


def write_rows(path: Path, rows: int, longest: int, seed: int) -> None:
    """`longest` tokens is where the longer runs cut; a fifth of the rows and more are at most half as long."""
    with path.open("w") as file:
        for prompt, response in conversations(rows, longest, seed):
            file.write(json.dumps({"q": prompt, "a": response}) + "\n")


def conversations(rows: int, longest: int, seed: int) -> Iterator[tuple[str, str]]:
    generator = random.Random(seed)
    room = 48
    for number in range(rows):
        length = max(room, round(generator.lognormvariate(0, 0.5) * 0.72 * longest))
        first, second = generator.randrange(10**4), generator.randrange(10**4)
        worked = "".join(f"{first} + {number} = {first + number}\n" for number in range(length // 16))[: length - room]
        yield f"{first} + {second}?", f"<think>{worked}</think>\\boxed{{{first + second}}}"


def outcome(manifest: dict[str, Any]) -> dict[str, Any]:
    """What ended how, and what it cost, by the manifest."""
    runs, evaluations = manifest["runs"], manifest["evaluations"]
    return {
        "state": manifest["state"],
        "runs": {
            run["name"]: {"state": run["state"], "attempts": run["attempts"], "seconds": run.get("trainSeconds"),
                          "tokensPerSecond": run.get("tokensPerSecond")}
            for run in runs
        },
        "models": len(manifest["models"]),
        "evaluations": dict(Counter(item["state"] for item in evaluations)),
        "generateAttempts": sum(item.get("generateAttempts", 0) for item in evaluations),
        "generatedTokens": sum(sum(item.get("tokens", ())) for item in evaluations),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
