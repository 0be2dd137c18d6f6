"""Chains of small additions and subtractions, and a teacher that works them out step by step.

A problem is a first term and signed terms after it, such as ``7 + 4 - 2 + 9``: one digit each, every running total
in 0..99. The number of terms is its difficulty, and the working grows with its square. More often than not the teacher
works a problem through a second time before it answers: right, but twice as long.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

HIGHEST_TOTAL = 99
CHECK_PROBABILITY = 0.7
PHRASINGS = ("What is {}?", "Compute {}.", "Find the value of {}.")


@dataclass(frozen=True)
class Sum:
    """Signed one-digit terms; the first is positive."""

    terms: tuple[int, ...]

    @property
    def totals(self) -> list[int]:
        """Running totals, one per term."""
        totals = [self.terms[0]]
        for term in self.terms[1:]:
            totals.append(totals[-1] + term)
        return totals

    @property
    def expression(self) -> str:
        return expression(self.terms[0], self.terms[1:])

    @property
    def steps(self) -> list[str]:
        """The problem rewritten one operation at a time: ``7 + 4 - 2``, ``11 - 2``, ``9``."""
        return [expression(total, self.terms[done:]) for done, total in enumerate(self.totals, start=1)]

    @property
    def value(self) -> int:
        return self.totals[-1]


def expression(first: int, others: Sequence[int]) -> str:
    return str(first) + "".join(f" + {term}" if term > 0 else f" - {-term}" for term in others)


def draw_sum(rng: random.Random, lengths: Sequence[int]) -> Sum:
    """A random problem whose number of terms is drawn from ``lengths``."""
    terms = [rng.randint(1, 9)]
    total = terms[0]
    for _ in range(rng.choice(lengths) - 1):
        allowed = [term for term in range(-9, 10) if term and 0 <= total + term <= HIGHEST_TOTAL]
        terms.append(rng.choice(allowed))
        total += terms[-1]
    return Sum(tuple(terms))


def draw_prompt(rng: random.Random, problem: Sum) -> str:
    return rng.choice(PHRASINGS).format(problem.expression)


def direct_answer(problem: Sum) -> str:
    """What the base has seen: the answer, with no work shown."""
    return f"The answer is \\boxed{{{problem.value}}}."


def work(problem: Sum, checked: bool) -> list[str]:
    """The lines of working, twice over if checked."""
    return [*problem.steps, *(["Let me check.", *problem.steps] if checked else [])]


def worked_answer(problem: Sum, checked: bool) -> str:
    return "\n".join((*work(problem, checked), "", direct_answer(problem)))


def teach(rng: random.Random, problem: Sum) -> str:
    """The teacher's response: every step, more often than not every step again, then the answer."""
    lines = work(problem, checked=rng.random() < CHECK_PROBABILITY)
    return "<think>\n" + "\n".join(lines) + "\n</think>\n\n" + direct_answer(problem)
