"""`potstill logs`: what the programs of an experiment print, from the store: pods may be long gone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, StoreOverride, cluster_at, results_of
from controller.cli.common import ProfileFile
from controller.cli.results import Results, is_file, results_here
from controller.planner.evaluations import resolve_evaluations, units_of
from controller.snapshot.types import Attempt
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.tasks import MemberPointer
from workloads.storage.base import NotFound
from workloads.untrusted import printable


def logs(
    experiment: Annotated[
        str, typer.Argument(help="The experiment file, or a name in the cluster.", metavar="EXPERIMENT.YAML|NAME")
    ],
    run: Annotated[str | None, typer.Argument(help="Only this run's training.", metavar="[RUN]")] = None,
    lines: Annotated[int, typer.Option("--tail", help="Lines of each attempt.")] = 50,
    store: StoreOverride = None,
    profile: ProfileFile = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """The tail of each attempt's log, oldest first, as it stands in the store (at most 20 s old while it runs)."""
    if is_file(experiment):
        results = results_here(Path(experiment), store, profile)
    else:
        results = results_of(cluster_at(kubeconfig, context, namespace).experiment(experiment), store)
    found = False
    for attempt in attempts(results, run):
        text = log_tail(results, attempt, lines)
        if text is not None:
            found = True
            print(f"==> {attempt.task.unit} attempt {attempt.number} <==\n{text}")
    if not found:
        print("nothing was logged yet")
        raise typer.Exit(1)


def attempts(results: Results, run: str | None = None) -> Iterable[Attempt]:
    """Those that ran a program, by date. Raises typer.BadParameter for a run that is not there."""
    frozen, seen = results.frozen, results.seen
    units = units_of(frozen, resolve_evaluations(frozen, seen))
    if run is not None:
        runs = {one.name: one for one in frozen.runs}
        if run not in runs:
            raise typer.BadParameter(f"there is no run {run}; runs: {', '.join(runs)}")
        units = (train_unit(runs[run]),)
    found = [a for unit in units for a in seen.unit(unit).attempts if not isinstance(a.task, MemberPointer)]
    return sorted(found, key=lambda attempt: attempt.task.created)


def log_tail(results: Results, attempt: Attempt, lines: int) -> str | None:
    """None when the attempt left no log."""
    try:
        data = results.store.get(store_keys.log_key(attempt.task.unit, attempt.number))
    except NotFound:
        return None
    return "\n".join(printable(data.decode(errors="replace")).splitlines()[-lines:])
