"""A tokenizer of bytes, and outputs made with it: small, real, and easy to cut in the middle of a character."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from workloads.api.records import Output

END = "<|im_end|>"


def byte_tokenizer() -> Tokenizer:
    """One token per byte, one special end token (the last id), and <think> tags as tokens that are not special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return tokenizer


def output(tokenizer: Tokenizer, problem: str, text: str, *, ended: bool = True, index: int = 0) -> Output:
    ids: Sequence[int] = tokenizer.encode(text + (END if ended else "")).ids
    return Output(
        problem=problem,
        index=index,
        prompt_sha256="0" * 64,
        prompt_tokens=3,
        token_ids=tuple(ids),
        text=text,
        finish_reason="stop" if ended else "length",
    )


def write_jsonl(path: Path, rows: Sequence[Output]) -> Path:
    path.write_bytes(b"".join(row.to_json() for row in rows))
    return path
