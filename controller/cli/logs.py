"""`potstill logs`: prints the logs of an experiment's programs from the store. The pods need not exist any more."""

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Annotated

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, StoreOverride
from controller.cli.common import ProfileFile
from controller.cli.experiment_names import ClusterOptions, ExperimentName, InCluster, find_results
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.cli.results import Results, manifest_state, seen_in
from controller.planner.added_stages import all_units
from controller.planner.evaluations import resolve_evaluations
from controller.snapshot.types import Attempt
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.tasks import MemberPointer
from workloads.storage.base import NotFound, Store
from workloads.untrusted import printable

DIRECTORY_FOLLOW_SECONDS = 1.0
FOLLOW_SECONDS = 5.0
"""The interval at which the logs in a bucket are read again."""


def logs(
    experiment: ExperimentName,
    run: Annotated[str | None, typer.Argument(help="Only this run's training.", metavar="[RUN]")] = None,
    lines: Annotated[int, typer.Option("--tail", help="Lines of each attempt.", metavar="LINES")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Also print new lines, until the experiment has ended.")
    ] = False,
    store: StoreOverride = None,
    profile: ProfileFile = None,
    cluster: InCluster = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    json_to: JsonTo = None,
) -> None:
    """Print the last lines of each attempt's log, the oldest attempt first.

    Programs write their logs to the store every 20 seconds. Exit 1 if nothing was logged yet.
    Example: potstill logs experiment.yaml -f
    """
    if follow and json_to is not None:
        raise typer.BadParameter("--follow prints text only: give either --follow or --json")
    found = find_results(experiment, cluster, store, profile, ClusterOptions(namespace, context, kubeconfig)).results
    follower = Follower(found.store, lines)
    if follow:
        with suppress(KeyboardInterrupt):
            follow_logs(found, run, follower)
        return
    logged = [
        (attempt, text) for attempt in attempts(found, run) if (text := log_tail(found, attempt, lines)) is not None
    ]
    body = {
        "experiment": {"name": found.frozen.name, "version": found.frozen.uid8},
        "attempts": [
            {
                "unit": str(attempt.task.unit),
                "attempt": attempt.number,
                "outcome": attempt.end.outcome if attempt.end is not None else None,
                "lines": text.splitlines(),
            }
            for attempt, text in logged
        ],
    }
    write_json(json_to, "logs", body)
    if shows_text(json_to):
        for attempt, text in logged:
            print(f"==> {attempt.task.unit} attempt {attempt.number} <==\n{text}")
    if not logged:
        print("nothing was logged yet", file=sys.stderr)
        raise typer.Exit(1)


class Follower:
    """Prints the new lines of each log. It keeps the lines of each log as last read, to find the new ones."""

    def __init__(self, store: Store, lines: int) -> None:
        self._store = store
        self._lines = lines
        self._last: dict[str, list[str]] = {}
        self._named = ""

    def show(self, attempt: Attempt) -> None:
        """Raises StoreError."""
        name = f"{attempt.task.unit} attempt {attempt.number}"
        log = _log(self._store, attempt)
        if log is None:
            return
        before = self._last.get(name)
        fresh = log[-self._lines :] if before is None else added_lines(before, log)
        self._last[name] = log
        if fresh:
            if name != self._named:
                print(f"==> {name} <==")
            print("\n".join(fresh), flush=True)
            self._named = name


def added_lines(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Returns the lines of `now` that follow those of `before`; all of `now` if the two do not overlap.

    Both are the last lines of one log, and `now` was read later.
    """
    for start in range(len(before)):
        known = before[start:]
        if list(now[: len(known)]) == list(known):
            return list(now[len(known) :])
    return list(now)


def follow_logs(found: Results, run: str | None, printed: Follower) -> None:
    """Prints new lines until the experiment has ended. Raises StoreError."""
    seconds = DIRECTORY_FOLLOW_SECONDS if found.store.url.startswith("file:") else FOLLOW_SECONDS
    while True:
        has_ended = manifest_state(found.store, found.frozen) not in (None, "running")
        seen = Results(found.store, found.frozen, seen_in(found.store, found.frozen))
        for attempt in attempts(seen, run):
            printed.show(attempt)
        if has_ended:
            return
        time.sleep(seconds)


def attempts(results: Results, run: str | None = None) -> Iterable[Attempt]:
    """Returns all attempts except pointers to a group's task, the oldest first.

    Raises typer.BadParameter for an unknown run.
    """
    frozen, seen = results.frozen, results.seen
    units = all_units(frozen, resolve_evaluations(frozen, seen), seen)
    if run is not None:
        runs = {item.name: item for item in frozen.runs}
        if run not in runs:
            raise typer.BadParameter(f"there is no run {run}; runs: {', '.join(runs)}")
        units = (train_unit(runs[run]),)
    found = [a for unit in units for a in seen.unit(unit).attempts if not isinstance(a.task, MemberPointer)]
    return sorted(found, key=lambda attempt: attempt.task.created)


def log_tail(results: Results, attempt: Attempt, lines: int) -> str | None:
    """Returns None if the attempt has no log."""
    log = _log(results.store, attempt)
    return None if log is None else "\n".join(log[-lines:])


def _log(store: Store, attempt: Attempt) -> list[str] | None:
    """Returns the lines of the log without control characters; None if there is no log."""
    try:
        data = store.get(store_keys.log_key(attempt.task.unit, attempt.number))
    except NotFound:
        return None
    return printable(data.decode(errors="replace")).splitlines()
