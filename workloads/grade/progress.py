"""Counts graded problems of each evaluation for the progress record. Pure, except for the callback."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

Report = Callable[[int, Mapping[str, int]], None]
"""Takes the number of finished evaluations, and the number of done problems by member digest."""


class GradingProgress:
    """A group's members one after another; calls `report` whenever a number has changed."""

    def __init__(self, members: Iterable[str], report: Report) -> None:
        self._done = dict.fromkeys(members, 0)
        self._report = report
        self._begun: list[str] = []
        self._problems_of: Mapping[str, Collection[str]] = {}
        self._left: Counter[str] = Counter()

    def begin(self, member: str) -> None:
        """The members before it are finished."""
        self._begun.append(member)
        self._count(0)

    def ask(self, problems: int, problems_of: Mapping[str, Collection[str]]) -> None:
        """`problems_of`: the problems of each piece of work, by its key. A problem without work is done."""
        self._problems_of = problems_of
        self._left = Counter(problem for about in problems_of.values() for problem in about)
        self._count(problems - len(self._left))

    def ended(self, key: str) -> None:
        """Call it when a piece of work has ended. A problem is done when its last piece has ended."""
        about = self._problems_of[key]
        self._left.subtract(about)
        if done := sum(self._left[problem] == 0 for problem in about):
            self._count(done)

    def _count(self, problems: int) -> None:
        self._done[self._begun[-1]] += problems
        self._report(len(self._begun) - 1, dict(self._done))
