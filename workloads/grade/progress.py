"""How many problems of each evaluation are graded, for people who wait. Pure but for the call that tells it."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

Tell = Callable[[int, Mapping[str, int]], None]
"""Takes the number of evaluations that are over, and of problems that are done by member digest."""


class GradingProgress:
    """A group's members one after another; `tell` is called whenever a number has changed."""

    def __init__(self, members: Iterable[str], tell: Tell) -> None:
        self._done = dict.fromkeys(members, 0)
        self._tell = tell
        self._begun: list[str] = []
        self._problems_of: Mapping[str, Collection[str]] = {}
        self._left: Counter[str] = Counter()

    def begin(self, member: str) -> None:
        """The members before it are over."""
        self._begun.append(member)
        self._count(0)

    def ask(self, problems: int, problems_of: Mapping[str, Collection[str]]) -> None:
        """`problems_of`: what each piece of work is about, by its key. A problem without any is done."""
        self._problems_of = problems_of
        self._left = Counter(problem for about in problems_of.values() for problem in about)
        self._count(problems - len(self._left))

    def ended(self, key: str) -> None:
        """One piece of work is over; a problem is done with its last."""
        about = self._problems_of[key]
        self._left.subtract(about)
        if done := sum(self._left[problem] == 0 for problem in about):
            self._count(done)

    def _count(self, problems: int) -> None:
        self._done[self._begun[-1]] += problems
        self._tell(len(self._begun) - 1, dict(self._done))
