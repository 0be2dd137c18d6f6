"""How a difference is shown: a symbol, the points, the interval, and the same in words. Pure."""

from dataclasses import dataclass
from typing import Literal

from workloads.results.base_comparison import BaseContrast
from workloads.results.difference import Difference

Mark = Literal["higher", "lower", "perhaps-higher", "perhaps-lower", "equal", "same"]
SYMBOLS: dict[Mark, str] = {
    "higher": "▲",
    "lower": "▼",
    "perhaps-higher": "△",
    "perhaps-lower": "▽",
    "equal": "=",
    "same": "≈",
}


@dataclass(frozen=True)
class Change:
    """A difference in percentage points: `text` +57.5, `interval` +40.9 to +70.2. `title` says it in words.

    `mark` higher or lower: significant. perhaps-...: the interval excludes 0, but the difference is not significant
    among all comparisons of the report. equal: equivalent within a margin. same: not distinguishable.
    """

    mark: Mark
    text: str
    interval: str
    title: str

    @property
    def symbol(self) -> str:
        return SYMBOLS[self.mark]


def base_change(contrast: BaseContrast) -> Change | None:
    """None when there is no difference to state."""
    if contrast.difference is None:
        return None
    return change(contrast.difference, contrast.sign, contrast.equivalent, contrast.verdict)


def change(difference: Difference, sign: int, is_equivalent: bool, words: str) -> Change:
    """`sign`: 1 significantly higher, -1 lower, 0 not. `words` say the same."""
    low, high = difference.low * 100, difference.high * 100
    interval = f"{low:+.1f} to {high:+.1f}"
    text = f"{difference.estimate * 100:+.1f}"
    is_perhaps = not sign and not is_equivalent and (low > 0 or high < 0)
    said = f"{words}{'; the interval excludes 0, which can be chance among so many comparisons' if is_perhaps else ''}"
    return Change(
        _mark(sign, is_equivalent, low, high),
        text,
        interval,
        f"{text} points ({interval}), {difference.n:,} problems: {said}",
    )


def _mark(sign: int, is_equivalent: bool, low: float, high: float) -> Mark:
    if sign:
        return "higher" if sign > 0 else "lower"
    if is_equivalent:
        return "equal"
    if low > 0:
        return "perhaps-higher"
    return "perhaps-lower" if high < 0 else "same"


def percent(value: float | None) -> str:
    """85.0%, or - for no value."""
    return "-" if value is None else f"{value:.1%}"
