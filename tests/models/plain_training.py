"""Training in a short script of transformers and peft, without code of Potstill: one document after another."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer


def train_adapter(
    base: Path,
    rows: Path,
    modules: Sequence[str],
    parameters: Sequence[str],
    *,
    steps: int,
    rank: int,
    alpha: float,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    rslora: bool = False,
) -> list[float]:
    """Trains a new LoRA adapter. Returns the same as `train`."""
    model = load(base)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft computes with any number
        use_rslora=rslora,
        target_modules=list(modules),
        target_parameters=list(parameters) or None,
        task_type="CAUSAL_LM",
    )
    return train(get_peft_model(model, config), base, rows, steps, learning_rate, weight_decay)


def train_further(
    base: Path, rows: Path, adapter: Path, *, steps: int, learning_rate: float, weight_decay: float
) -> list[float]:
    """Trains from the values of `adapter`. Returns the same as `train`."""
    model = PeftModel.from_pretrained(load(base), adapter, is_trainable=True)
    return train(model, base, rows, steps, learning_rate, weight_decay)


def train_whole(base: Path, rows: Path, *, steps: int, learning_rate: float, weight_decay: float) -> list[float]:
    """Trains all weights. Returns the same as `train`."""
    return train(load(base), base, rows, steps, learning_rate, weight_decay)


def load(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")


def train(model: Any, base: Path, rows: Path, steps: int, learning_rate: float, weight_decay: float) -> list[float]:
    """Returns the mean loss over the responses' tokens of each step; a step uses all rows."""
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay)
    documents = []
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        prompt = tokenizer(row["prompt"]).input_ids
        response = tokenizer(row["response"], add_special_tokens=False).input_ids
        documents.append((len(prompt), torch.tensor([*prompt, *response, tokenizer.eos_token_id])))
    count = sum(len(ids) - prompt for prompt, ids in documents)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for prompt, ids in documents:
            logits = model(input_ids=ids[None]).logits[0]
            loss = functional.cross_entropy(logits[prompt - 1 : -1], ids[prompt:], reduction="sum") / count
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(total)
    return losses
