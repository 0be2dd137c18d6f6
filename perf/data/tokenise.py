"""What tokenising a data set costs: `python -m perf.data.tokenise [--rows 25000] [--kilobytes 15] [--format prompt]`.

Makes rows of prose and sums, trains a byte-level BPE tokenizer of 16,384 tokens on some of them, and measures seconds,
CPU seconds of all threads and peak memory of three processes: `library` reads the rows with json and only calls
encode_batch_fast of tokenizers, on all cores; `first` is Potstill's preparation of the data; `again` maps what `first`
has left. Prints one JSON object. Goal: 25,000 rows of 15 KB in under 90 s on 2 cores and 1 GB.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import accumulate, islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.text.chats import MARKED
from workloads.api.model import sha256_of
from workloads.api.units import Columns, Lora, Template, TrainInputs
from workloads.data.end_token import end_token
from workloads.data.samples import prepare
from workloads.text.tokenizer import load_tokenizer

VOCABULARY = 16_384
LIBRARY_ROWS_AT_ONCE = 128
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
SYLLABLES = (
    "ba",
    "con",
    "der",
    "el",
    "fi",
    "gra",
    "ho",
    "in",
    "ka",
    "lu",
    "men",
    "no",
    "or",
    "pre",
    "qua",
    "ri",
    "sta",
    "tion",
    "un",
    "ver",
    "wo",
    "xi",
    "yo",
    "zen",
)


def text(draw: random.Random, words: list[str], weights: list[float], characters: int) -> str:
    """Words as often as in prose: the n-th most frequent 1/n as often as the first (Zipf)."""
    parts: list[str] = []
    length = 0
    while length < characters:
        sentence = " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(4, 14)))
        sentence = f"{sentence.capitalize()}, and {draw.randint(2, 999)} + {draw.randint(2, 999)} is computed.\n"
        parts.append(sentence)
        length += len(sentence)
    return "".join(parts)[:characters]


def write(folder: Path, rows: int, characters: int, is_chat: bool) -> Path:
    draw = random.Random(0)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(20_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    path = folder / "rows.jsonl"
    with path.open("w") as file:
        for number in range(rows):
            answer = f"<think>\n{text(draw, words, weights, characters - 300)}\n</think>\n\nDone."
            asked = f"Question {number}: {text(draw, words, weights, 200)}"
            row: dict[str, object] = {"prompt": asked, "response": answer}
            if is_chat:
                turns = (("user", asked), ("assistant", answer))
                row = {"messages": [{"role": role, "content": content} for role, content in turns]}
            file.write(json.dumps(row) + "\n")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    with path.open() as file:
        tokenizer.train_from_iterator([line for line, _ in zip(file, range(200), strict=False)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIAL[0]}))
    (folder / "chat_template.jinja").write_text(MARKED)
    return path


def measure_library(folder: Path) -> dict[str, float]:
    """The same texts through tokenizers alone, in this process: the least that tokenising can take."""
    began = time.monotonic()
    inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = tokens = 0
    with (folder / "rows.jsonl").open() as file:
        while lines := list(islice(file, LIBRARY_ROWS_AT_ONCE)):
            rows += len(lines)
            encoded = inner.encode_batch_fast(
                [text for line in lines for text in _texts(line)], add_special_tokens=False
            )
            tokens += sum(len(one.ids) for one in encoded)
    return {**_used(began), "rows": rows, "tokens": tokens}


def _texts(line: str) -> list[str]:
    row = json.loads(line)
    if "messages" in row:
        return [message["content"] for message in row["messages"]]
    return [row["prompt"], row["response"]]


def _used(began: float) -> dict[str, float]:
    """Of this process, since it began at `began` on the monotonic clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_megabytes": round(used.ru_maxrss / 1024),
    }


def measure(folder: Path, format_: str) -> dict[str, float]:
    """In this process."""
    began = time.monotonic()
    tokenizer = load_tokenizer(folder)
    chat = format_ == "messages"
    inputs = TrainInputs.model_validate(
        {
            "base_content": "sha256:" + "0" * 64,
            "data_content": sha256_of(str((folder / "rows.jsonl").stat().st_size).encode()),
            "columns": Columns(),
            "format": format_,
            "template": Template(name="base" if chat else "chatml"),
            "samples": 100,
            "batch_size": 50,
            "sequence_tokens": 4096,
            "overlong": "truncate",
            "on_short": "repeat",
            "checkpoints": (),
            "lora": Lora(rank=8, alpha=8, target=("attention",)),
            "learning_rate": 1e-4,
            "schedule": "cosine",
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "gradient_clip": 1.0,
            "validation_share": 0.0,
            "precision": "bfloat16",
            "seed": 0,
        }
    )
    data = prepare(folder / "rows.jsonl", inputs, tokenizer, end_token(folder, tokenizer), folder / "cache")
    return {**_used(began), "rows": len(data.rows), "tokens": int(data.rows.lengths.sum())}


def machine() -> str:
    """The processor as Linux names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--kilobytes", type=float, default=15)
    parser.add_argument("--format", choices=("prompt", "messages"), default="prompt")
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--library", action="store_true", help=argparse.SUPPRESS)
    stated = parser.parse_args()
    if stated.measure is not None:
        found = measure_library(stated.measure) if stated.library else measure(stated.measure, stated.format)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), stated.rows, int(stated.kilobytes * 1000), stated.format == "messages")
        command = [sys.executable, "-m", "perf.data.tokenise", "--measure", name, "--format", stated.format]
        order = {"library": [*command, "--library"], "first": command, "again": command}
        result: dict[str, object] = {
            "file_megabytes": round(path.stat().st_size / 1e6),
            "format": stated.format,
            "cores": len(os.sched_getaffinity(0)),
            "machine": machine(),
            "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
        }
        for name, line in order.items():
            result[f"load_before_{name}"] = round(os.getloadavg()[0], 1)
            result[name] = json.loads(subprocess.run(line, check=True, capture_output=True).stdout)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
