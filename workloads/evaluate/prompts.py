"""Makes the token ids that generation starts from: the training format for an adapter, the stated prompt for a base."""

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.api.model import canonical_json, sha256_of
from workloads.api.units import Prompting
from workloads.text.samples import encode_prompt
from workloads.text.templates import BadTemplate
from workloads.text.tokenizer import TextTokenizer

PROBLEM = "{problem}"


class BadPrompt(Exception):
    """A prompt cannot be made, or leaves no tokens for the answer."""


@dataclass(frozen=True)
class Prompt:
    """`token_ids` end with the prefill, if any. `sha256`: the hash of the token ids."""

    problem: str
    token_ids: tuple[int, ...]
    sha256: str


def make_prompt(tokenizer: TextTokenizer, prompting: Prompting, problem: str, text: str) -> Prompt:
    """Returns the training prefix of `text` (inside the instruction, if stated), then the prefill, tokenised
    separately.
    """
    if prompting.instruction and PROBLEM not in prompting.instruction:
        raise BadPrompt(f"the instruction has no {PROBLEM}: say where the problem's text goes")
    asked = prompting.instruction.replace(PROBLEM, text) if prompting.instruction else text
    try:
        prefix = encode_prompt(tokenizer, prompting.template, asked)
    except BadTemplate as error:
        raise BadPrompt(f"problem {problem}: {error}") from error
    token_ids = (*prefix, *tokenizer.encode(prompting.prefill))
    if not token_ids:
        raise BadPrompt(f"problem {problem}: the prompt is empty")
    return Prompt(problem, token_ids, prompt_sha256(token_ids))


def prompt_sha256(token_ids: Sequence[int]) -> str:
    return sha256_of(canonical_json(list(token_ids)))


def prompts_sha256(prompts: Sequence[Prompt]) -> str:
    """Returns one hash over all prompts of an evaluation, in order."""
    return sha256_of(canonical_json([[prompt.problem, prompt.sha256] for prompt in prompts]))


def check_context(prompts: Sequence[Prompt], limit_tokens: int, context_tokens: int) -> None:
    """Raises BadPrompt if the longest prompt and the limit do not fit the base's context together."""
    longest = max(prompts, key=lambda prompt: len(prompt.token_ids))
    needed = len(longest.token_ids) + limit_tokens
    if needed > context_tokens:
        raise BadPrompt(
            f"problem {longest.problem}: its prompt has {len(longest.token_ids)} tokens and the largest budget is "
            f"{limit_tokens}, together {needed}; the base's context holds {context_tokens}. Lower the budgets"
        )
