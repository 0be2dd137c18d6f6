"""`potstill show`: the state of an experiment, and its first failure with traceback and the end of its log."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from controller.cli.cluster import (
    Context,
    Json,
    Kubeconfig,
    Namespace,
    StoreOverride,
    cluster_at,
    condition,
    results_of,
)
from controller.cli.common import ProfileFile, wide_console
from controller.cli.experiment_names import ClusterOptions, ExperimentName, InCluster, find_results, kind_of
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.cli.logs import attempts, log_tail
from controller.cli.results import Results, best_run_line, manifest_state
from controller.cli.status import render as render_cluster_status
from controller.planner.actions import Status
from controller.planner.planner import decide
from controller.snapshot.types import Attempt, JobsSnapshot
from controller.terminal import render as render_status
from workloads.api import store_keys
from workloads.api.records import Failure
from workloads.storage.base import NotFound
from workloads.untrusted import printable
from workloads.words import count_of

NORMAL = frozenset({"Suspended", "Finished"})
"""Reasons of Progressing=False that need no attention: the user suspended the experiment, or it has finished."""
NOT_FAILED = frozenset({"succeeded", "superseded", "suspended", "preempted", "lost", "deleted"})
"""Outcomes in the ends of tasks that are not shown as failed: nothing is wrong with the unit's program or its inputs.

Any other end is shown, also one that uses up none of the unit's attempts, such as that of a suspect.
"""


def show(
    experiment: ExperimentName,
    lines: Annotated[int, typer.Option("--tail", help="Lines of the log.", metavar="LINES")] = 30,
    store: StoreOverride = None,
    profile: ProfileFile = None,
    cluster: InCluster = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    json_to: JsonTo = None,
) -> None:
    """Show the progress of an experiment, what blocks it, and its first failure with the end of its log.

    Exit 1 if an attempt failed or the cluster refused the experiment. Example: potstill show experiment.yaml
    """
    options, text = ClusterOptions(namespace, context, kubeconfig), shows_text(json_to)
    held_up, item = "", None
    if kind_of(experiment, cluster) == "cluster":
        item = cluster_at(kubeconfig, context, namespace).experiment(experiment)
        if text:
            wide_console().print(render_cluster_status(item))
        if condition(item, "Accepted").get("status") == "False":
            write_json(json_to, "show", _EMPTY | {"cluster": item.get("status")})
            raise typer.Exit(1)
        results, held_up = results_of(item, store), _held_up(item)
        if text:
            _print_best_run(results)
    else:
        results = find_results(experiment, cluster, store, profile, options).results
        if text:
            _print_progress(results)
    failed = [attempt for attempt in attempts(results) if _failed(attempt)]
    write_json(json_to, "show", _json(results, held_up, failed, lines, item))
    if text:
        _print_first_failure(results, failed, lines, held_up)
    if failed:
        raise typer.Exit(1)


_EMPTY: dict[str, Any] = {
    "experiment": None, "store": None, "status": None, "best_run": None, "report": None, "held_up": None,
    "failed_attempts": 0, "first_failure": None, "cluster": None,
}  # fmt: skip


def _json(results: Results, held_up: str, failed: list[Attempt], lines: int, item: Json | None) -> dict[str, Any]:
    frozen, first = results.frozen, failed[0] if failed else None
    failure = _failure(results, first) if first is not None else None
    status = _status(results)
    return _EMPTY | {
        "experiment": {"name": frozen.name, "version": frozen.uid8},
        "store": results.store.url,
        "status": {
            "state": manifest_state(results.store, frozen),
            "counts": status.counts,
            "runs": status.runs,
            "evaluations": status.evaluations,
            "conditions": status.conditions,
        },
        "best_run": best_run_line(results.store, frozen.name, frozen.uid8),
        "report": _report_url(results),
        "held_up": held_up or None,
        "failed_attempts": len(failed),
        "first_failure": None
        if first is None
        else {
            "unit": str(first.task.unit),
            "attempt": first.number,
            "end": first.end,
            "failure": failure,
            "log": (log_tail(results, first, lines) or "").splitlines(),
        },
        "cluster": item.get("status") if item is not None else None,
    }


def _status(results: Results) -> Status:
    """Computes the status from the store alone, without Jobs: a unit counts as running if it has an open attempt."""
    return decide(results.frozen, results.seen, JobsSnapshot({}), datetime.now(UTC)).status


def _report_url(results: Results) -> str | None:
    key = store_keys.report_prefix(results.frozen.name, results.frozen.uid8) + "index.html"
    return f"{results.store.url}/{key}" if results.store.head(key) is not None else None


def _held_up(item: Json) -> str:
    """Returns the reason why the experiment makes no progress; "" if it makes progress."""
    for condition_type in ("Ready", "Progressing"):
        found = condition(item, condition_type)
        if found.get("status") in ("False", "Unknown") and found["reason"] not in NORMAL:
            return f"{found['reason']}: {found['message']}"
    return ""


def _print_progress(results: Results) -> None:
    frozen, console = results.frozen, wide_console()
    console.print(f"{frozen.name} {frozen.uid8} in {results.store.url}", markup=False, highlight=False)
    console.print(render_status(_status(results)))
    _print_best_run(results)
    if (report := _report_url(results)) is not None:
        console.print(f"report: {report}", markup=False, highlight=False)


def _print_best_run(results: Results) -> None:
    line = best_run_line(results.store, results.frozen.name, results.frozen.uid8)
    if line is not None:
        print(printable(line))


def _print_first_failure(results: Results, failed: list[Attempt], lines: int, held_up: str) -> None:
    if held_up:
        print(printable(f"held up by {held_up}"))
    if not failed:
        print("no attempt failed")
        return
    first = failed[0]
    print(f"\n{count_of(len(failed), 'attempt')} failed; the first: {first.task.unit} attempt {first.number}")
    failure = _failure(results, first)
    if first.end is not None:
        code = "no exit code" if first.end.exit_code is None else f"exit code {first.end.exit_code}"
        message = first.end.message.removeprefix(f"{first.end.reason}: ")
        print(printable(f"{first.end.reason} ({code}): {message}"))
    elif failure is not None:
        print(printable(f"{failure.reason}: {failure.message}"))
    if failure is not None and failure.traceback:
        print(printable(failure.traceback))
    print(f"--- log, last {lines} lines\n{log_tail(results, first, lines) or '(none)'}")


def _failure(results: Results, attempt: Attempt) -> Failure | None:
    """Returns the failure that the attempt's program recorded; None if it recorded none."""
    try:
        return Failure.model_validate_json(results.store.get(store_keys.failure_key(attempt.task.unit, attempt.number)))
    except (NotFound, ValidationError):
        return None


def _failed(attempt: Attempt) -> bool:
    if attempt.end is None:
        return attempt.failure is not None
    return attempt.end.outcome not in NOT_FAILED
