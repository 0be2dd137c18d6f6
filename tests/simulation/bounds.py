"""The limit on a unit's attempts, stated without the code that enforces it."""

from collections import Counter
from collections.abc import Collection, Iterable

from workloads.api.experiment import Limits
from workloads.api.records import TaskEnd


def beyond_bounds(ends: Iterable[TaskEnd], moved: Collection[int], limits: Limits) -> str | None:
    """Returns the violation of the limits, or None.

    `ends`: the ends of the attempts that count, in their order; `moved`: attempts that committed something, after which the
    count starts again.
    """
    charged, uncharged = 0, Counter[str]()
    for end in ends:
        if end.number in moved:
            charged, uncharged = 0, Counter()
        if end.counts_as_failure:
            charged += 1
        elif end.outcome not in {"suspended", "deleted", "succeeded"}:
            uncharged[end.outcome] += 1
        if charged > limits.attempts:
            return f"{charged} charged attempts in a row"
        if uncharged[end.outcome] > limits.preemptions + 1:
            return f"{uncharged[end.outcome]} attempts in a row that ended {end.outcome}"
    return None
