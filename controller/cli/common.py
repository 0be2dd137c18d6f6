"""Options and functions that commands share: they find the experiment and the store."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from controller.cli.local_profile import profile_of_this_machine
from controller.experiment.errors import SpecError
from controller.experiment.load import ExperimentFile as LoadedFile
from controller.experiment.load import load_experiment_file
from controller.experiment.models import Experiment
from controller.experiment.profile import Profile, load_profile
from controller.experiment.resolve import resolve
from controller.terminal import plain_console
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import ModelSource
from workloads.models.files import model_folder
from workloads.storage.base import NoDirectory, Store, StoreError, open_store
from workloads.storage.content_digest import ContentError

ExperimentFile = Annotated[Path, typer.Argument(help="The experiment file.", metavar="EXPERIMENT.YAML")]
StoreUrl = Annotated[
    str,
    typer.Option("--store", envvar="POTSTILL_STORE", help="A directory, or s3://bucket/prefix.", metavar="URL"),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        help="A profile file in place of this machine's, such as examples/profiles/h200.yaml.",
        metavar="FILE",
    ),
]
StorePlace = Annotated[str | None, typer.Argument(help="The same as --store.", metavar="[STORE]", show_default=False)]
DEFAULT_STORE = "potstill-store"
UNNAMED = "experiment"
"""The name of the file in the errors of `resolve`, which does not know the file."""


def frozen_from(path: Path, profile: Path | None) -> FrozenExperiment:
    """Raises SpecError with everything that is wrong, each with its line."""
    return resolved_from(path, profile_from(profile))[1]


def resolved_from(path: Path, profile: Profile) -> tuple[LoadedFile, FrozenExperiment]:
    """Returns the file with the line of each field, and the resolved experiment.

    Raises SpecError like `frozen_from`.
    """
    loaded = load_experiment_file(path)
    return loaded, resolve_loaded(loaded, path.resolve().parent, profile)


def resolve_loaded(loaded: LoadedFile, directory: Path, profile: Profile) -> FrozenExperiment:
    """Resolves relative paths of the file against `directory`. Raises SpecError like `frozen_from`."""
    fetch_base_files(loaded.experiment)
    try:
        return resolve(loaded.experiment, directory, profile, datetime.now(UTC))
    except (SpecError, ContentError) as error:
        if isinstance(error, SpecError) and error.source != UNNAMED:
            raise
        from controller.validation import reference_problems  # imported only here, because most files have no problems

        first = error.problems if isinstance(error, SpecError) else ()
        problems = [*first, *reference_problems(loaded.experiment, directory)]
        if not problems:
            raise
        raise loaded.error(problems) from error


def fetch_base_files(experiment: Experiment) -> None:
    """Downloads the small files of a hub base (configuration, tokenizer) into the hub's cache, if it lacks them.

    The trainer and the tokens of the data depend on these files. If the hub does not answer, the experiment is resolved
    without them.
    """
    base = experiment.spec.base
    trains = any(run.checkpoints is None for run in experiment.spec.runs)
    if trains and base.revision is not None and "://" not in base.model and not Path(base.model).is_dir():
        location = f"{base.model}@{base.revision}"
        with suppress(ContentError, StoreError):
            model_folder(ModelSource(location=f"hub://{location}", content=f"hub:{location}"))


def profile_from(path: Path | None) -> Profile:
    return profile_of_this_machine()[0] if path is None else load_profile(path)


def store_at(url: str, *, make: bool = False) -> Store:
    """Opens the store at a URL or directory. With `make`, creates the directory.

    Raises StoreError if it cannot be used.
    """
    try:
        return open_store(whole_url(url), make=make)
    except NoDirectory as error:
        raise NoDirectory(f"{error}; state the store with --store, or create it with potstill run") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--store") from error


def stated_store(argument: str | None, option: str) -> str:
    """Returns the store of a command that takes it as an argument or an option.

    Raises typer.BadParameter if the two differ.
    """
    if argument is not None and option not in (argument, DEFAULT_STORE, os.environ.get("POTSTILL_STORE")):
        raise typer.BadParameter(f"the store is {argument} and --store is {option}: give one of the two")
    return argument or option


def whole_url(store: str) -> str:
    """Returns the URL for `open_store`: a path becomes a file:// URL."""
    return store if "://" in store else Path(store).resolve().as_uri()


@contextmanager
def store_or_empty(url: str) -> Iterator[Store]:
    """Opens the store like `store_at`.

    For a directory that does not exist it gives an empty store, and does not create it.
    """
    with tempfile.TemporaryDirectory() as empty:
        try:
            found = store_at(url)
        except NoDirectory:
            found = store_at(empty)
        yield found


def wide_console() -> Console:
    """Returns a console as wide as the terminal. For a file or a pipe it does not fold lines."""
    console = plain_console(sys.stdout)
    return console if console.is_terminal else plain_console(sys.stdout, width=160)
