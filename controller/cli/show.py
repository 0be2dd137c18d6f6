"""`potstill show`: how an experiment stands, and why it failed. The first failure, its traceback, its log's tail."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

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
from controller.cli.logs import attempts, log_tail
from controller.cli.results import Results, best_run_line, is_file, results_here, results_of_version
from controller.cli.status import render
from controller.cli.versions import is_version
from controller.planner.planner import decide
from controller.snapshot.types import Attempt, JobsSnapshot
from controller.terminal import render as render_status
from workloads.api import store_keys
from workloads.api.records import Failure
from workloads.storage.base import NotFound
from workloads.untrusted import printable

GOES_ON = frozenset({"Suspended", "Finished"})
"""Reasons of Progressing=False that are as people wanted it."""
BLAMELESS = frozenset({"succeeded", "superseded", "suspended", "preempted", "lost", "deleted"})


def show(
    experiment: Annotated[
        str,
        typer.Argument(
            help="The experiment file, a version of potstill list, or a name in the cluster.",
            metavar="EXPERIMENT.YAML|NAME@VERSION|NAME",
        ),
    ],
    lines: Annotated[int, typer.Option("--tail", help="Lines of the log.")] = 30,
    store: StoreOverride = None,
    profile: ProfileFile = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Its state, what holds it up, and the first failure from the store. Exit 1 if there is one."""
    held_up = ""
    if is_version(experiment):
        results = results_of_version(experiment, store)
        _print_standing(results)
    elif is_file(experiment):
        results = results_here(Path(experiment), store, profile)
        _print_standing(results)
    else:
        item = cluster_at(kubeconfig, context, namespace).experiment(experiment)
        wide_console().print(render(item))
        if condition(item, "Accepted").get("status") == "False":
            raise typer.Exit(1)
        results, held_up = results_of(item, store), _held_up(item)
        _print_best_run(results)
    _print_first_failure(results, lines, held_up)


def _held_up(item: Json) -> str:
    """Why nothing goes on, "" where it does."""
    for kind in ("Ready", "Progressing"):
        found = condition(item, kind)
        if found.get("status") in ("False", "Unknown") and found["reason"] not in GOES_ON:
            return f"{found['reason']}: {found['message']}"
    return ""


def _print_standing(results: Results) -> None:
    """As the store tells it: what no attempt is open for is not at work."""
    frozen, told = results.frozen, decide(results.frozen, results.seen, JobsSnapshot({}), datetime.now(UTC)).status
    console = wide_console()
    console.print(f"{frozen.name} {frozen.uid8} in {results.store.url}", markup=False, highlight=False)
    console.print(render_status(told))
    _print_best_run(results)
    report = store_keys.report_prefix(frozen.name, frozen.uid8) + "index.html"
    if results.store.head(report) is not None:
        console.print(f"report: {results.store.url}/{report}", markup=False, highlight=False)


def _print_best_run(results: Results) -> None:
    line = best_run_line(results.store, results.frozen.name, results.frozen.uid8)
    if line is not None:
        print(printable(line))


def _print_first_failure(results: Results, lines: int, held_up: str) -> None:
    """Exits 1 if there is one."""
    failed = [attempt for attempt in attempts(results) if _failed(attempt)]
    if held_up:
        print(printable(f"held up by {held_up}"))
    if not failed:
        print("no attempt failed")
        return
    first = failed[0]
    print(f"\n{_count(len(failed))} failed; the first: {first.task.unit} attempt {first.number}")
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
    raise typer.Exit(1)


def _count(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _failure(results: Results, attempt: Attempt) -> Failure | None:
    """In the attempt's own words, if it had any."""
    try:
        return Failure.model_validate_json(results.store.get(store_keys.failure_key(attempt.task.unit, attempt.number)))
    except (NotFound, ValidationError):
        return None


def _failed(attempt: Attempt) -> bool:
    return attempt.failure is not None if attempt.end is None else attempt.end.outcome not in BLAMELESS
