"""`potstill show`: why an Experiment failed. The first failure's reason, its traceback and the tail of its log."""

from typing import Annotated

import typer

from controller.cli.cluster import (
    Context,
    Kubeconfig,
    Name,
    Namespace,
    StoreOverride,
    cluster_at,
    condition,
    results_of,
)
from controller.cli.common import wide_console
from controller.cli.logs import attempts, log_tail, printable
from controller.cli.status import render
from controller.view import Attempt

BLAMELESS = frozenset({"succeeded", "superseded", "suspended", "preempted", "lost", "deleted"})


def show(
    name: Name,
    lines: Annotated[int, typer.Option("--tail", help="Lines of the log.")] = 30,
    store: StoreOverride = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Status, and the first failure from the store. Exit 1 if there is one."""
    item = cluster_at(kubeconfig, context, namespace).experiment(name)
    wide_console().print(render(item))
    if condition(item, "Accepted").get("status") == "False":
        raise typer.Exit(1)
    results = results_of(item, store)
    failed = [attempt for attempt in attempts(results) if _failed(attempt)]
    if not failed:
        print("no attempt failed")
        return
    first = failed[0]
    print(f"\n{len(failed)} attempts failed; the first: {first.task.unit} attempt {first.number}")
    if first.end is not None:
        print(printable(f"{first.end.reason} (exit code {first.end.exit_code}): {first.end.message}"))
    if first.failure is not None:
        print(printable(f"{first.failure.reason}: {first.failure.message}"))
        print(printable(first.failure.traceback or ""))
    print(f"--- log, last {lines} lines\n{log_tail(results, first, lines) or '(none)'}")
    raise typer.Exit(1)


def _failed(attempt: Attempt) -> bool:
    return attempt.failure is not None if attempt.end is None else attempt.end.outcome not in BLAMELESS
