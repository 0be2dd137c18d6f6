"""Converts evalplus's files of problems (MBPP+, HumanEval+) to our format.

A row has task_id, prompt, entry_point, canonical_solution, base_input, plus_input and atol. Expected values come from
the canonical solutions in Potstill's sandbox, with their CPU seconds. Large ones are digests, so the file stays small
(a pickle of MBPP+'s is 793 MB).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workloads.sandbox.order import Order, Outcome, SandboxLimits
from workloads.sandbox.pool import run_all
from workloads.typed_json import encode_input

REFERENCE_LIMITS = SandboxLimits(cpu_seconds=(120.0,) * 200, total_cpu_seconds=600.0, memory_bytes=8 << 30)
RECORDED_SECONDS = 0.05
"""Shorter tests are recorded as 0: they get the smallest limit anyway, and the file does not change by noise."""
SUITES = ("base", "plus")

Arguments = Callable[[str, list[Any]], list[Any]]
"""Returns the positional arguments of one test, from a task id and the test's JSON."""


class ReferenceFailed(Exception):
    """A canonical solution did not finish, so there are no expected values."""


def convert(
    rows: Sequence[Mapping[str, Any]], arguments_of: Arguments, oracles: Mapping[str, str], workers: int = 2
) -> list[dict[str, Any]]:
    """Returns the rows of a benchmark's file. `oracles`: by entry point, comparisons other than `equal`.

    Raises ReferenceFailed, and `sandbox.pool.Unsupported` if there is no sandbox.
    """
    orders = [_reference_order(row, suite, arguments_of) for row in rows for suite in SUITES]
    outcomes: dict[str, Outcome] = {}
    for outcome in run_all(orders, workers=workers):
        if not isinstance(outcome, Outcome) or outcome.end != "finished":
            raise ReferenceFailed(f"the canonical solution did not finish: {outcome}")
        outcomes[outcome.key] = outcome
    orders_by_key = {order.key: order for order in orders}
    return [
        {
            "id": row["task_id"],
            "prompt": row["prompt"],
            "entry_point": row["entry_point"],
            "solution": row["prompt"] + row["canonical_solution"],
            "suites": [_suite(row, name, orders_by_key, outcomes, oracles) for name in SUITES],
        }
        for row in rows
    ]


def _reference_order(row: Mapping[str, Any], suite: str, arguments_of: Arguments) -> Order:
    return Order(
        key=f"{row['task_id']} {suite}",
        program=row["prompt"] + row["canonical_solution"],
        entry_point=row["entry_point"],
        arguments=tuple(encode_input(list(arguments_of(row["task_id"], i))) for i in row[f"{suite}_input"]),
        limits=REFERENCE_LIMITS,
    )


def _suite(
    row: Mapping[str, Any],
    name: str,
    orders: Mapping[str, Order],
    outcomes: Mapping[str, Outcome],
    oracles: Mapping[str, str],
) -> dict[str, Any]:
    key = f"{row['task_id']} {name}"
    outcome = outcomes[key]
    return {
        "name": name,
        "arguments": list(orders[key].arguments),
        "expected": list(outcome.values),
        "seconds": [round(s, 2) if s >= RECORDED_SECONDS else 0 for s in outcome.seconds],
        "tolerance": row["atol"],
        "oracle": oracles.get(row["entry_point"], "equal"),
    }
