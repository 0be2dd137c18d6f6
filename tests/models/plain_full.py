"""Full fine-tuning as a page of transformers: nothing of Potstill's in it, one document after another, no tricks."""

import json
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer


def train(base: Path, rows: Path, *, steps: int, learning_rate: float, weight_decay: float) -> list[float]:
    """Mean loss over the responses' tokens of each step; a step takes all rows."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
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
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(total)
    return losses
