"""`potstill run`: runs the whole experiment on this machine."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import typer
from pydantic import ValidationError

from controller.cli.common import (
    DEFAULT_STORE,
    ExperimentFile,
    ProfileFile,
    StoreUrl,
    profile_from,
    resolved_from,
    store_at,
    wide_console,
)
from controller.cli.local_profile import profile_of_this_machine
from controller.cli.results import best_run_line
from controller.cli.versions import earlier_versions_line
from controller.local_runner import FinalStatus, run_local
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.storage.base import NotFound, Store
from workloads.untrusted import printable

EXIT_CODES = {"Succeeded": 0, "PartiallyFailed": 1, "Failed": 1, "Interrupted": 4, "Refused": 4}


def run(path: ExperimentFile, store: StoreUrl = DEFAULT_STORE, profile: ProfileFile = None) -> None:
    """Train, evaluate every checkpoint, grade and report, on this machine. After a stop, run it again: it continues.

    Exit 0 if all succeeded, 1 if something failed, 4 if it was stopped. Example: potstill run experiment.yaml
    """
    from controller.validation import validate_contents  # imported here, because scipy loads slowly

    opened = store_at(store, make=True)
    if profile is None:
        print(profile_of_this_machine()[1])
    loaded, frozen = resolved_from(Path(path), profile_from(profile))
    found = validate_contents(loaded.experiment, frozen)
    if found.problems:
        raise loaded.error(found.problems)
    for warning in found.warnings:
        print(printable(f"warning: {warning}"))
    is_new = opened.head(store_keys.experiment_key(frozen.name, frozen.uid8)) is None
    if is_new and (line := earlier_versions_line(opened, frozen, datetime.now(UTC))) is not None:
        print(printable(line))
    final = run_local(frozen, opened, live=sys.stdout.isatty())
    print(printable(f"{final.outcome}: {final.message}"))
    if final.status is not None:
        _print_results(opened, frozen)
    if (link := report_link(opened, final)) is not None:
        print(f"report: {link}")
    raise typer.Exit(EXIT_CODES[final.outcome])


def _print_results(store: Store, frozen: FrozenExperiment) -> None:
    """Prints the table of last checkpoints and the sentence that compares the runs.

    Prints nothing if there is no manifest.
    """
    from controller.cli.last_checkpoints import last_checkpoints_table  # imported here, because scipy loads slowly

    try:
        manifest = Manifest.model_validate_json(store.get(store_keys.manifest_key(frozen.name, frozen.uid8)))
    except (NotFound, ValidationError):
        manifest = None
    if manifest is not None and any(evaluation.state == "done" for evaluation in manifest.evaluations):
        wide_console().print(last_checkpoints_table(manifest))
    if (line := best_run_line(store, frozen.name, frozen.uid8)) is not None:
        print(printable(line))


def report_link(store: Store, final: FinalStatus) -> str | None:
    """Returns the URL of the report's page; None if this run made no report or the page is not in the store.

    Raises StoreError if the store cannot be read.
    """
    page = f"{final.report_prefix}index.html"
    if final.status is None or final.status.report is None or store.head(page) is None:
        return None
    return f"{store.url}/{page}"
