"""Decides whether an output is completed, and extracts its answer. Pure: text in, Extraction out; no input raises.

Definitions (docs/grading.md has every form with an example): a trained model's output is *completed* if `</think>` is
closed and a complete answer follows it; a base's output if it has a complete answer anywhere. An output that is not
completed still has an answer, for lenient accuracy: the last complete one anywhere in it.
"""

from dataclasses import dataclass, replace

from workloads.api.grades import Incomplete
from workloads.benchmarks.model import CompletionRule
from workloads.graders.extraction.boxed import Found, boxes
from workloads.graders.extraction.fenced import fences
from workloads.graders.extraction.pattern import Pattern

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Rule:
    r"""`completion`: what a complete answer is. `pattern`: with completion `pattern`, and with no other.

    `choice`: the answer names a choice. Then a box completes the answer, but the letter may stand beside it
    (`\boxed{x^2}`, then `Answer: D`): the answer is the text around the box.
    """

    completion: CompletionRule
    thinking: bool
    pattern: Pattern | None = None
    choice: bool = False


@dataclass(frozen=True)
class Extraction:
    """`answer`: from the zone if completed; otherwise the last complete one anywhere, or None."""

    completed: bool
    answer: str | None
    incomplete: Incomplete | None


def read(text: str, rule: Rule, *, ended: bool, entry_point: str | None = None) -> Extraction:
    """`text`: prefill + output, or a prefix of it. `ended`: whether it ended by itself; only `any` and `pattern` use
    it.

    `entry_point`: the function of a code problem; with `fenced`, a block that defines it is preferred.
    """
    zone, reason = _zone(text, rule.thinking)
    if zone is not None:
        found = _find(zone, rule, ended, entry_point)
        if found.answer is not None:
            return Extraction(True, found.answer, None)
        reason = "unclosed_answer" if found.unclosed else "no_answer_in_zone"
    anywhere = None if rule.completion == "any" else _find(text, rule, ended, entry_point).answer
    return Extraction(False, anywhere, reason)


def _zone(text: str, thinking: bool) -> tuple[str | None, Incomplete | None]:
    """Returns the zone in which a complete answer must be; None and the reason if there is none."""
    if not thinking:
        return text, None
    close = text.rfind(CLOSE)
    if close < 0:
        return None, "unclosed_think"
    zone = text[close + len(CLOSE) :]
    if OPEN in zone:
        return None, "reopened_think"
    return zone, None


def _find(text: str, rule: Rule, ended: bool, entry_point: str | None) -> Found:
    match rule.completion:
        case "boxed":
            found = boxes(text)
            return replace(found, answer=text.strip()) if rule.choice and found.answer is not None else found
        case "fenced":
            return fences(text, entry_point)
        case "any":
            return Found(text.strip() or None if ended else None, unclosed=bool(text.strip()))
        case "pattern":
            assert rule.pattern is not None
            return rule.pattern.last(text, ended=ended)
