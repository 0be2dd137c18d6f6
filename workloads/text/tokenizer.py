"""The base's tokenizer, from its tokenizer.json alone, and the end tokens that the base declares."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from workloads.api.model import sha256_of
from workloads.text.templates import BaseChat

QWEN_END_TOKENS = ("<|endoftext|>", "<|im_end|>")
"""Qwen's 151643 and 151645. Its bases declare one and its chat models the other, but a model may emit
either."""


class BadTokenizer(Exception):
    """The model directory has no usable tokenizer.json."""


@dataclass(frozen=True)
class TextTokenizer:
    """`sha256`: the hash of tokenizer.json, which names its blob in the store.

    `opening`: special tokens that the base's tokenizer puts before every text (BOS of Llama, Gemma, Mistral; Qwen has
    none). The base was never trained on a text without them.
    """

    inner: Tokenizer
    path: Path
    sha256: str
    declared_end_token_ids: tuple[int, ...]
    opening: tuple[int, ...] = ()
    chat: BaseChat = field(default_factory=BaseChat)

    def encode(self, text: str) -> list[int]:
        """Returns only the token ids of the text, without beginning or end tokens.

        Special tokens written out in the text (`<|im_end|>`) become one id, as in training.
        """
        return list(self.inner.encode(text, add_special_tokens=False).ids)

    def with_opening(self, token_ids: Sequence[int]) -> list[int]:
        """Returns the ids with `opening` before them, unless a template has written it already."""
        written = tuple(token_ids[: len(self.opening)]) == self.opening
        return list(token_ids) if written else [*self.opening, *token_ids]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text, including special tokens."""
        return str(self.inner.decode(list(token_ids), skip_special_tokens=False))

    def token_id(self, token: str) -> int | None:
        found = self.inner.token_to_id(token)
        return None if found is None else int(found)

    @property
    def vocabulary_size(self) -> int:
        return int(self.inner.get_vocab_size(with_added_tokens=True))

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """Ends of a generation, ascending: those that the base declares, and both of Qwen's if the vocabulary
        has them.
        """
        qwen = (self.token_id(token) for token in QWEN_END_TOKENS)
        return tuple(sorted({*self.declared_end_token_ids, *(found for found in qwen if found is not None)}))


def load_tokenizer(directory: Path) -> TextTokenizer:
    """`directory`: a model in Hugging Face layout. Raises BadTokenizer."""
    path = directory / "tokenizer.json"
    try:
        data = path.read_bytes()
        inner = Tokenizer.from_str(data.decode())
    except FileNotFoundError:
        raise BadTokenizer(f"{directory} has no tokenizer.json: save the base with a fast tokenizer") from None
    except Exception as error:  # tokenizers raises bare Exception
        raise BadTokenizer(f"{path} is not a tokenizer: {error}") from error
    inner.no_truncation()
    inner.no_padding()
    opening = _opening(inner)
    # Texts are encoded without special tokens, so the file's own post-processor has one effect left: trim_offsets
    # removes leading spaces from the offsets. Replace it by one that does not.
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    ends = _declared_end_token_ids(directory, inner)
    return TextTokenizer(inner, path, sha256_of(data), ends, opening, base_chat(directory))


def opening_of(directory: Path) -> tuple[int, ...]:
    """Returns `TextTokenizer.opening` of a model's directory, without loading its tokenizer if nothing in the file adds
    tokens.
    """
    processor = _json(directory / "tokenizer.json").get("post_processor")
    steps = processor.get("processors", [processor]) if isinstance(processor, dict) else []
    if all(isinstance(step, dict) and step.get("type") == "ByteLevel" for step in steps):
        return ()
    return load_tokenizer(directory).opening


def _opening(inner: Tokenizer) -> tuple[int, ...]:
    """Returns the tokens that the post-processor of tokenizer.json, which transformers applies too, puts before
    a text.
    """
    plain = inner.encode("a", add_special_tokens=False).ids
    whole = inner.encode("a", add_special_tokens=True).ids
    start = next((at for at in range(len(whole)) if whole[at : at + len(plain)] == plain), 0)
    return tuple(int(token) for token in whole[:start])


def _declared_end_token_ids(directory: Path, inner: Tokenizer) -> tuple[int, ...]:
    """Returns eos_token_id of generation_config.json and config.json (an id or a list), eos_token of
    tokenizer_config.json.
    """
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        declared = _json(directory / name).get("eos_token_id")
        found |= {declared} if isinstance(declared, int) else set(declared or ())
    token = _json(directory / "tokenizer_config.json").get("eos_token")
    content = token.get("content") if isinstance(token, dict) else token
    token_id = inner.token_to_id(content) if isinstance(content, str) else None
    return tuple(sorted(found | ({token_id} if token_id is not None else set())))


def base_chat(directory: Path) -> BaseChat:
    """Returns chat templates and special tokens of a base, from the files of transformers. Raises BadTokenizer.

    Templates: chat_template.jinja, else chat_template of chat_template.json or tokenizer_config.json, a text or a list
    of {name, template}. Subfolders (additional_chat_templates) are not in the base's content digest, so they are not
    read.
    """
    config = _json(directory / "tokenizer_config.json")
    templates: dict[str, str] = {}
    for found in (config.get("chat_template"), _json(directory / "chat_template.json").get("chat_template")):
        if isinstance(found, str):
            templates["default"] = found
        elif isinstance(found, list):
            templates |= {
                item["name"]: item["template"]
                for item in found
                if isinstance(item, dict)
                and isinstance(item.get("name"), str)
                and isinstance(item.get("template"), str)
            }
    path = directory / "chat_template.jinja"
    try:
        templates |= {"default": path.read_text(encoding="utf-8")} if path.is_file() else {}
    except UnicodeDecodeError as error:
        raise BadTokenizer(f"{directory}: a chat template is not UTF-8 text: {error.reason}") from error
    return BaseChat(tuple(sorted(templates.items())), tuple(sorted(_special_tokens(directory, config).items())))


def _special_tokens(directory: Path, config: dict[str, Any]) -> dict[str, str]:
    """Returns texts by name: bos_token, eos_token and others."""
    stated = _json(directory / "special_tokens_map.json") | config
    extra = config.get("extra_special_tokens") or config.get("model_specific_special_tokens")
    stated |= extra if isinstance(extra, dict) else {}
    found = {}
    for name, value in stated.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BadTokenizer(f"{path} is not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise BadTokenizer(f"{path} is not a JSON object")
    return loaded
