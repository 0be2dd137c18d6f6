"""The display of a difference: a symbol, the points, the interval, and the same in words. Pure."""

from dataclasses import dataclass
from typing import Literal

from workloads.results.base_comparison import BaseContrast
from workloads.results.run_comparison import RunContrast

Mark = Literal["higher", "lower", "equal", "same"]
SYMBOLS: dict[Mark, str] = {"higher": "▲", "lower": "▼", "equal": "=", "same": "≈"}


@dataclass(frozen=True)
class ShownChange:
    """A difference in percentage points: `text` +57.5, `interval` +40.9 to +70.2. `title` says it in words.

    `mark`: higher or lower if it is significant, and the interval does not contain 0; equal if it is equivalent within
    a margin, which contains the interval; same if not distinguishable. `title` also has the 95% interval of this
    comparison alone.
    """

    mark: Mark
    text: str
    interval: str
    title: str

    @property
    def symbol(self) -> str:
        return SYMBOLS[self.mark]


def base_change(contrast: BaseContrast) -> ShownChange | None:
    """Returns None if there is no difference to state."""
    return change(contrast, contrast.verdict)


def change(contrast: BaseContrast | RunContrast, words: str) -> ShownChange | None:
    """`words`: the meaning of the mark. Returns None if there is no difference to state."""
    found = contrast.difference
    if found is None or contrast.interval is None:
        return None
    text, interval = f"{found.estimate * 100:+.1f}", bounds_text(*contrast.interval)
    alone = f"this comparison alone, at 95%: {bounds_text(found.low, found.high)}"
    title = f"{text} points ({interval}), {found.n:,} problems: {words}; {alone}"
    return ShownChange(_mark(contrast.sign, contrast.equivalent), text, interval, title)


def _mark(sign: int, is_equivalent: bool) -> Mark:
    if sign:
        return "higher" if sign > 0 else "lower"
    return "equal" if is_equivalent else "same"


def bounds_text(low: float, high: float) -> str:
    """Returns text such as +40.9 to +70.2."""
    return f"{low * 100:+.1f} to {high * 100:+.1f}"


def percent(value: float | None) -> str:
    """Returns text such as 85.0%, or - for no value."""
    return "-" if value is None else f"{value:.1%}"
