"""How many problems of each evaluation are graded, for people who wait. Pure but for the call that tells it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

Tell = Callable[[int, Mapping[str, int]], None]
"""Takes the number of evaluations that are over, and of problems that are done by member digest."""


class Counting:
    """A group's members one after another; `tell` is called whenever a number has changed."""

    def __init__(self, members: Iterable[str], tell: Tell) -> None:
        self._done = dict.fromkeys(members, 0)
        self._tell = tell
        self._begun: list[str] = []
        self._problem_of: Mapping[str, str] = {}
        self._left: Counter[str] = Counter()

    def begin(self, member: str) -> None:
        """The members before it are over."""
        self._begun.append(member)
        self._count(0)

    def ask(self, problems: int, problem_of: Mapping[str, str]) -> None:
        """`problem_of`: the problem that each piece of work is about, by its key. A problem without any is done."""
        self._problem_of = problem_of
        self._left = Counter(problem_of.values())
        self._count(problems - len(self._left))

    def ended(self, key: str) -> None:
        """One piece of work is over; a problem is done with its last."""
        problem = self._problem_of[key]
        self._left[problem] -= 1
        if self._left[problem] == 0:
            self._count(1)

    def _count(self, problems: int) -> None:
        self._done[self._begun[-1]] += problems
        self._tell(len(self._begun) - 1, dict(self._done))
