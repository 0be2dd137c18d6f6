"""Prompt and response as token ids: samples of the trainer and prompts of the generation use the same functions."""

from dataclasses import dataclass

from workloads.api.units import Template
from workloads.text.templates import render_prompt
from workloads.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Sample:
    """The loss is on `response`, which ends with the end token; generation starts from `prompt`."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]


def encode_prompt(tokenizer: TextTokenizer, template: Template, prompt: str) -> tuple[int, ...]:
    """Adds the tokens that the base's tokenizer puts before every text. Raises BadTemplate.

    The base's own chat template writes them itself, as in transformers.
    """
    token_ids = tokenizer.encode(render_prompt(template, prompt, tokenizer.chat))
    return tuple(token_ids if template.name == "base" else tokenizer.with_opening(token_ids))


def encode_sample(
    tokenizer: TextTokenizer, template: Template, prompt: str, response: str, end_token_id: int
) -> Sample:
    """The response is used verbatim and tokenised separately: no token lies across the border. Raises BadTemplate."""
    return Sample(encode_prompt(tokenizer, template, prompt), (*tokenizer.encode(response), end_token_id))
