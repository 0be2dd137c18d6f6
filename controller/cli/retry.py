"""`potstill retry`: let what was given up be tried again."""

from pathlib import Path

import typer

from controller.cli.common import DEFAULT_STORE, ExperimentFile, ProfileFile, StoreUrl, frozen_from, store_at
from controller.retry import retry as retry_units


def retry(path: ExperimentFile, store: StoreUrl = DEFAULT_STORE, profile: ProfileFile = None) -> None:
    """Attempts that failed no longer count; the next `potstill run` tries again. Exit 1 if nothing was given up."""
    retried = retry_units(frozen_from(Path(path), profile), store_at(store))
    for item in retried:
        print(f"{item.unit}: may be tried again after {item.attempts} attempts ({item.reason})")
    if not retried:
        print("nothing was given up")
        raise typer.Exit(1)
