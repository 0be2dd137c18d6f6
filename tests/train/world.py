"""A tiny base of random weights, a little data, and a train task in a directory store, for the trainer's tests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from workloads.api import store_keys
from workloads.api.records import Failure
from workloads.api.tasks import FileSource, ModelSource, Owner, TrainTask
from workloads.api.units import Columns, Lora, Template, TrainInputs, unit_of
from workloads.program import run_program
from workloads.storage.base import Store, open_store
from workloads.storage.content_digest import directory_content, file_sha256
from workloads.storage.markers import fetch, read_marker
from workloads.train.__main__ import lead

SIZES: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.2,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "norm_topk_prob": True,
}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
END_OF_TEXT, _, IM_END, THINK, THINK_CLOSE = range(256, 261)


def write_tokenizer(directory: Path, eos: str = "<|endoftext|>") -> Path:
    """One token for each byte, then the special tokens from 256 on."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(text, special=text.startswith("<|")) for text in SPECIAL])
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    return directory


def write_base(directory: Path, kind: str = "dense", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    if kind == "moe":
        model: Any = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **EXPERTS))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES))
    model.save_pretrained(directory)
    return write_tokenizer(directory)


def sums(count: int, first: int = 0) -> list[dict[str, str]]:
    """Rows of different lengths with reasoning, which can be learned."""
    return [
        {
            "prompt": f"What is {n} + {n * 7 % 13}?",
            "response": f"<think>{'so ' * (n % 9)}{n} + {n * 7 % 13}</think>It is {n + n * 7 % 13}.",
        }
        for n in range(first, first + count)
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def inputs(base: Path, data: Path, **changes: Any) -> TrainInputs:
    fields: dict[str, Any] = {
        "base_content": directory_content(base),
        "data_content": file_sha256(data),
        "columns": Columns(),
        "template": Template(name="chatml"),
        "samples": 24,
        "batch_size": 4,
        "sequence_tokens": 128,
        "overlong": "truncate",
        "on_short": "fail",
        "checkpoints": (8, 24),
        "lora": Lora(rank=4, alpha=8.0, target=("attention", "mlp")),
        "learning_rate": 1e-2,
        "schedule": "cosine",
        "warmup_steps": 1,
        "weight_decay": 0.01,
        "gradient_clip": 1.0,
        "validation_share": 0.0,
        "precision": "float32",
        "seed": 16,
    }
    return TrainInputs(**(fields | changes))


def open_directory(folder: Path) -> Store:
    folder.mkdir(parents=True, exist_ok=True)
    return open_store(folder.as_uri(), {})


def order(
    store: Store, stated: TrainInputs, base: Path, data: Path, number: int = 1, save_state_every_seconds: float = 600.0
) -> TrainTask:
    """Writes the task to the store like the controller, and returns it."""
    task = TrainTask(
        unit=unit_of(stated),
        number=number,
        owner=Owner(experiment="test", uid8="00000000"),
        created=datetime(2026, 1, 1, tzinfo=UTC),
        inputs=stated,
        base=ModelSource(location=str(base), content=stated.base_content),
        data=FileSource(location=str(data), sha256=stated.data_content),
        save_state_every_seconds=save_state_every_seconds,
    )
    store.put_new(task.key, task.to_json())
    return task


def environment(store: Store, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "POTSTILL_STORE": store.url,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **more,
    }


def start(store: Store, task: TrainTask, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workloads.train", task.key],
        env=environment(store, **more),
        stderr=subprocess.PIPE,
        text=True,
    )


def train(store: Store, task: TrainTask, **more: str) -> tuple[int, str]:
    """Exit code and log of a whole attempt in a separate process."""
    process = start(store, task, **more)
    _, log = process.communicate(timeout=600)
    return process.returncode, log


def train_here(store: Store, task: TrainTask) -> int:
    """Returns the exit code of a whole attempt in this process."""
    return run_program(TrainTask, lead, [task.key], environment(store))


def files(store: Store, task: TrainTask, marker: str, into: Path) -> dict[str, Path]:
    """Downloads the files of a committed marker."""
    found = read_marker(store, task.unit, marker)
    assert found is not None, marker
    return fetch(store, found, [file.name for file in found.files], into)


def failure(store: Store, task: TrainTask) -> Failure:
    return Failure.model_validate_json(store.get(store_keys.failure_key(task.unit, task.number)))
