"""`potstill run`: the whole experiment on this machine."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import typer

from controller.cli.common import DEFAULT_STORE, ExperimentFile, ProfileFile, StoreUrl, frozen_from, store_at
from controller.cli.local_profile import profile_of_this_machine
from controller.cli.results import best_run_line
from controller.cli.versions import earlier_versions_line
from controller.loop import FinalStatus, run_local
from controller.training_checks import training_warnings
from workloads.contract import layout
from workloads.store import Store
from workloads.untrusted import printable

EXIT_CODES = {"Succeeded": 0, "PartiallyFailed": 1, "Failed": 1, "Interrupted": 4, "Refused": 4}


def run(path: ExperimentFile, store: StoreUrl = DEFAULT_STORE, profile: ProfileFile = None) -> None:
    """Train, evaluate every checkpoint, grade, report. Run it again after a stop: it goes on where it was."""
    opened = store_at(store, make=True)
    if profile is None:
        print(profile_of_this_machine()[1])
    frozen = frozen_from(Path(path), profile)
    for warning in training_warnings(frozen):
        print(printable(f"warning: {warning}"))
    is_new = opened.head(layout.experiment_key(frozen.name, frozen.uid8)) is None
    if is_new and (line := earlier_versions_line(opened, frozen, datetime.now(UTC))) is not None:
        print(printable(line))
    final = run_local(frozen, opened, live=sys.stdout.isatty())
    print(printable(f"{final.outcome}: {final.message}"))
    if final.status is not None and (line := best_run_line(opened, frozen.name, frozen.uid8)) is not None:
        print(printable(line))
    if (link := report_link(opened, final)) is not None:
        print(f"report: {link}")
    raise typer.Exit(EXIT_CODES[final.outcome])


def report_link(store: Store, final: FinalStatus) -> str | None:
    """URL of the report's page; None if this run made no report or the page is not in the store.

    Raises StoreError if the store cannot be read.
    """
    page = f"{final.report_prefix}index.html"
    if final.status is None or final.status.report is None or store.head(page) is None:
        return None
    return f"{store.url}/{page}"
