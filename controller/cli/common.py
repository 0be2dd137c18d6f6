"""What commands share: where the experiment and the store are."""

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
"""The source that `resolve` names in its errors: it does not know the file."""


def frozen_from(path: Path, profile: Path | None) -> FrozenExperiment:
    """Raises SpecError with everything that is wrong, each with its line."""
    return resolved_from(path, profile_from(profile))[1]


def resolved_from(path: Path, profile: Profile) -> tuple[LoadedFile, FrozenExperiment]:
    """The file with the lines of its fields, and the experiment that it asks. Raises SpecError as `frozen_from`."""
    loaded = load_experiment_file(path)
    return loaded, resolve_loaded(loaded, path.resolve().parent, profile)


def resolve_loaded(loaded: LoadedFile, directory: Path, profile: Profile) -> FrozenExperiment:
    """Relative paths of the file start at `directory`. Raises SpecError as `frozen_from`."""
    fetch_base_files(loaded.experiment)
    try:
        return resolve(loaded.experiment, directory, profile, datetime.now(UTC))
    except (SpecError, ContentError) as error:
        if isinstance(error, SpecError) and error.source != UNNAMED:
            raise
        from controller.validation import reference_problems  # here, because most files are right

        first = error.problems if isinstance(error, SpecError) else ()
        problems = [*first, *reference_problems(loaded.experiment, directory)]
        if not problems:
            raise
        raise loaded.error(problems) from error


def fetch_base_files(experiment: Experiment) -> None:
    """Brings the few small files of a hub base (configuration, tokenizer) into the hub's cache, if it lacks them.

    They say what trains the base and what its data will be. Where the hub does not answer, nothing is known of them.
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
    """A directory may be given as a path. Raises StoreError if it cannot be used; only `make` makes one."""
    try:
        return open_store(whole_url(url), make=make)
    except NoDirectory as error:
        raise NoDirectory(f"{error}; --store says where the store is, potstill run makes it") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--store") from error


def stated_store(argument: str | None, option: str) -> str:
    """Of a command that takes its store as an argument too. Raises typer.BadParameter where the two differ."""
    if argument is not None and option not in (argument, DEFAULT_STORE, os.environ.get("POTSTILL_STORE")):
        raise typer.BadParameter(f"the store is {argument} and --store is {option}: give one of the two")
    return argument or option


def whole_url(store: str) -> str:
    """As `open_store` takes it: a path becomes a file:// URL."""
    return store if "://" in store else Path(store).resolve().as_uri()


@contextmanager
def store_or_empty(url: str) -> Iterator[Store]:
    """As `store_at`, but a directory that is not there is an empty store, and is not made."""
    with tempfile.TemporaryDirectory() as empty:
        try:
            found = store_at(url)
        except NoDirectory:
            found = store_at(empty)
        yield found


def wide_console() -> Console:
    """As wide as the terminal; a file or a pipe gets lines that are not folded."""
    console = plain_console(sys.stdout)
    return console if console.is_terminal else plain_console(sys.stdout, width=160)
