"""Train the quickstart's base model from scratch: a Qwen3 of under a million parameters, with its own tokenizer.

    python examples/quickstart/make_base.py --out examples/quickstart/base

The weights in ``base/`` were made by this script with ``--device cuda``: 83 seconds on one H200; a CPU takes its time.
The same seed reads the same corpus and makes the same tokenizer; equal weights are not promised.
They are kept in bfloat16 (half the size) and loaded in float32, as config.json says.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from corpus import END_OF_TEXT, THINK, THINK_END, TURN_END, TURN_START, documents
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

SEED = 16
VOCABULARY_SIZE = 512
ROW_TOKENS = 256
ROWS_PER_STEP = 16
STEPS = 2500
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 100
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen's: words and single digits with the space before them, and the rest in runs.
WORDS = Regex(r" ?[A-Za-z_]+| ?[0-9]| ?[^\sA-Za-z0-9_]+|\s+")


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from the corpus, with Qwen's special tokens after the learnt ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [END_OF_TEXT, TURN_START, TURN_END]
    marks = [THINK, THINK_END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(special) - len(marks),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "".join(itertools.islice(documents(seed), 4000))
    for token in (*special, *marks):
        text = text.replace(token, "\n")
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def make_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    end_of_text = tokenizer.get_vocab()[END_OF_TEXT]
    return Qwen3Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
        dtype=torch.float32,
    )


def packed_rows(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """Whole documents packed into rows: (token ids, position ids that begin again at each document)."""
    padding = tokenizer.get_vocab()[END_OF_TEXT]
    row: list[int] = []
    positions: list[int] = []
    for document in documents(seed):
        ids = tokenizer.encode(document, add_special_tokens=False)
        if len(ids) > ROW_TOKENS:
            continue
        if len(row) + len(ids) > ROW_TOKENS:
            left = ROW_TOKENS - len(row)
            yield row + [padding] * left, positions + list(range(left))
            row, positions = [], []
        row, positions = row + ids, positions + list(range(len(ids)))


def batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rows = packed_rows(tokenizer, seed)
    while True:
        ids, positions = zip(*itertools.islice(rows, ROWS_PER_STEP), strict=True)
        yield torch.tensor(ids), torch.tensor(positions)


def document_mask(positions: torch.Tensor) -> torch.Tensor:
    """(rows, 1, query, key) booleans: a token sees its own document, up to itself."""
    document = (positions == 0).cumsum(1)
    same = document[:, :, None] == document[:, None, :]
    return (same & torch.ones_like(same).tril())[:, None]


def learning_rate(step: int, steps: int) -> float:
    if step < WARMUP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return PEAK_LEARNING_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    padding = tokenizer.get_vocab()[END_OF_TEXT]
    started = time.monotonic()
    for step, (ids, positions) in enumerate(itertools.islice(batches(tokenizer, seed + 1), steps)):
        ids, positions = ids.to(model.device), positions.to(model.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        logits = model(input_ids=ids, position_ids=positions, attention_mask=document_mask(positions)).logits
        targets = ids[:, 1:].masked_fill((positions[:, 1:] == 0) | (ids[:, :-1] == padding), -100)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.4f} seconds {time.monotonic() - started:.0f}", flush=True)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights in bfloat16, the config asking for float32, a generation config with both of Qwen's end tokens."""
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids([TURN_END, END_OF_TEXT])
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rewrite_json(folder / "config.json", dtype="float32")
    rewrite_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def rewrite_json(path: Path, **fields: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields, indent=2, sort_keys=True) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--steps", type=int, default=STEPS)
    arguments.add_argument("--seed", type=int, default=SEED)
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = make_tokenizer(options.seed)
    model = Qwen3ForCausalLM(make_config(tokenizer)).to(options.device)
    print(f"{model.num_parameters():,} parameters")
    train(model, tokenizer, options.steps, options.seed)
    save(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
