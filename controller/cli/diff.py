"""`potstill diff`: what differs between two experiments, and what it did."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.common import ProfileFile, profile_from, wide_console
from controller.cli.manifests import manifest_at
from controller.experiment.load import load_experiment
from controller.experiment.places import Places, spec_changes
from controller.experiment.profile import Profile
from controller.experiment.resolve import resolve
from workloads.results.asked import asked_by_experiment, asked_by_manifest
from workloads.results.changes import unit_changes

if TYPE_CHECKING:
    from controller.cli.diff_text import ComparedManifests

Place = Annotated[str, typer.Argument(help="An experiment file; or a manifest.json, as a path or a URL in a store.")]


def diff(
    old: Place,
    new: Place,
    profile: ProfileFile = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the comparison as JSON here.")] = None,
) -> None:
    """Compare two experiments. Exit 0 nothing differs, 1 something does, 2 wrong use, 4 one cannot be read."""
    from controller.cli.diff_text import diff_json, diff_text  # here, because scipy takes its time to load

    kinds = {_is_spec(where) for where in (old, new)}
    if len(kinds) == 2:
        raise typer.BadParameter("give two experiment files or two manifests: one of each cannot be compared")
    compared = _specs(old, new, profile_from(profile)) if kinds == {True} else _manifests(old, new)
    if json_file is not None:
        json_file.write_bytes(diff_json(compared))
    console = wide_console()
    for part in diff_text(compared):
        console.print(part, markup=False, highlight=False)
    raise typer.Exit(1 if compared.differs else 0)


def _is_spec(where: str) -> bool:
    return where.endswith((".yaml", ".yml"))


def _specs(old: str, new: str, profile: Profile) -> ComparedManifests:
    """Raises SpecError."""
    from controller.cli.diff_text import ComparedManifests

    read = [(Path(where), load_experiment(Path(where))) for where in (old, new)]
    now = datetime.now(UTC)
    asked = [asked_by_experiment(resolve(item, path.resolve().parent, profile, now)) for path, item in read]
    before, after = (item for _, item in read)
    units = unit_changes(asked[0], asked[1], Places(before, after))
    return ComparedManifests(old, new, spec_changes(before, after), units)


def _manifests(old: str, new: str) -> ComparedManifests:
    from controller.cli.diff_text import ComparedManifests
    from workloads.results.effects import effects

    before, after = manifest_at(old), manifest_at(new)
    units = unit_changes(asked_by_manifest(before), asked_by_manifest(after))
    return ComparedManifests(old, new, (), units, effects(before, after))
