"""Prompt and response as token ids: one function for the trainer's samples and one prefix of it for generation."""

from dataclasses import dataclass

from workloads.api.units import Template
from workloads.text.templates import render_prompt
from workloads.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Sample:
    """The loss is on `response`, which ends with the end token; `prompt` is what generation starts from."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]


def encode_prompt(tokenizer: TextTokenizer, template: Template, prompt: str) -> tuple[int, ...]:
    """With the tokens that the base's tokenizer puts before every text. Raises BadTemplate.

    The base's own chat template writes them itself where they belong, as in transformers.
    """
    token_ids = tokenizer.encode(render_prompt(template, prompt, tokenizer.chat))
    return tuple(token_ids if template.name == "base" else tokenizer.opened(token_ids))


def encode_sample(
    tokenizer: TextTokenizer, template: Template, prompt: str, response: str, end_token_id: int
) -> Sample:
    """The response is taken verbatim and tokenised apart: no token lies across the border. Raises BadTemplate."""
    return Sample(encode_prompt(tokenizer, template, prompt), (*tokenizer.encode(response), end_token_id))
