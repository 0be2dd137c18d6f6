"""The end token after every response: the one with which the base itself was trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.text.tokenizer import BadTokenizer, TextTokenizer


@dataclass(frozen=True)
class EndToken:
    token_id: int
    text: str
    source: str
    """The file and field of the base that declare it."""


def end_token(directory: Path, tokenizer: TextTokenizer) -> EndToken:
    """Returns the base's own: eos_token of tokenizer_config.json, else the first eos_token_id of a generation_config or
    config.

    It is not the template's (`<|im_end|>` of chatml): if the base was not trained with that token, its frozen embedding
    row cannot be learned, and the trained model may never stop. Raises BadTokenizer if none is declared.
    """
    declared = _field(directory / "tokenizer_config.json", "eos_token")
    text = declared.get("content") if isinstance(declared, dict) else declared
    if isinstance(text, str):
        token_id = tokenizer.token_id(text)
        if token_id is None:
            raise BadTokenizer(
                f"{directory.name}: eos_token {text!r} of tokenizer_config.json is not in tokenizer.json"
            )
        return EndToken(token_id, text, "tokenizer_config.json: eos_token")
    for name in ("generation_config.json", "config.json"):
        ids = _field(directory / name, "eos_token_id")
        first = ids[0] if isinstance(ids, list) and ids else ids
        if isinstance(first, int):
            found = tokenizer.inner.id_to_token(first)
            if found is None:
                raise BadTokenizer(f"{directory.name}: eos_token_id {first} of {name} is not in tokenizer.json")
            return EndToken(first, found, f"{name}: eos_token_id")
    raise BadTokenizer(
        f"{directory.name} declares no end token: set eos_token in its tokenizer_config.json "
        "or eos_token_id in its generation_config.json"
    )


def _field(path: Path, name: str) -> Any:
    return json.loads(path.read_text()).get(name) if path.is_file() else None
