"""One check of `potstill doctor`: what was found, and what to do about it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["good", "advice", "blocks"]


@dataclass(frozen=True)
class Check:
    """`state`: "blocks" if no local run can succeed before `todo` is done; "advice" if some runs could fail."""

    name: str
    state: State
    finding: str
    todo: str = ""


def good(name: str, finding: str) -> Check:
    return Check(name, "good", finding)


def advice(name: str, finding: str, todo: str) -> Check:
    return Check(name, "advice", finding, todo)


def blocks(name: str, finding: str, todo: str) -> Check:
    return Check(name, "blocks", finding, todo)


def made(name: str, checks: Callable[[], Check | Iterable[Check]]) -> tuple[Check, ...]:
    """Returns the results of `checks`. An unexpected error becomes a result too, so that `doctor` never crashes."""
    try:
        found = checks()
        return (found,) if isinstance(found, Check) else tuple(found)
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        return (advice(name, f"could not be checked: {detail}", "please report this as a bug"),)
