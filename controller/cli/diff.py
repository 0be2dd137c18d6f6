"""`potstill diff`: the differences between two experiments and between their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.common import (
    DEFAULT_STORE,
    ProfileFile,
    StoreUrl,
    profile_from,
    resolved_from,
    store_at,
    wide_console,
)
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.cli.manifests import manifest_at, manifest_of
from controller.cli.versions import is_version, version_named
from controller.experiment.places import Places, spec_changes
from controller.experiment.profile import Profile
from workloads.api.manifest import Manifest
from workloads.results.asked import asked_by_experiment, asked_by_manifest
from workloads.results.changes import unit_changes

if TYPE_CHECKING:
    from controller.cli.diff_text import ComparedManifests

Place = Annotated[
    str,
    typer.Argument(
        help="An experiment file; name@version of potstill list; or a manifest.json, as a path or a URL in a store.",
        metavar="EXPERIMENT.YAML|NAME@VERSION|MANIFEST",
    ),
]


def diff(
    old: Place,
    new: Place,
    profile: ProfileFile = None,
    store: StoreUrl = DEFAULT_STORE,
    json_to: JsonTo = None,
) -> None:
    """Compare two experiments: two files (their fields), or two manifests or versions (their results).

    Exit 0 if nothing differs, 1 if anything does, 2 for wrong use, 4 if one cannot be read. Example: potstill diff
    quickstart@1a2b quickstart@3c4d
    """
    from controller.cli.diff_text import diff_json, diff_text  # imported here, because scipy loads slowly

    kinds = {_is_spec(where) for where in (old, new)}
    if len(kinds) == 2:
        raise typer.BadParameter("give two experiment files, or two manifests or versions: one of each is not compared")
    compared = _specs(old, new, profile_from(profile)) if kinds == {True} else _manifests(old, new, store)
    write_json(json_to, "diff", json.loads(diff_json(compared)))
    if shows_text(json_to):
        console = wide_console()
        for part in diff_text(compared):
            console.print(part, markup=False, highlight=False)
    raise typer.Exit(1 if compared.differs else 0)


def _is_spec(where: str) -> bool:
    return where.endswith((".yaml", ".yml"))


def _specs(old: str, new: str, profile: Profile) -> ComparedManifests:
    """Raises SpecError."""
    from controller.cli.diff_text import ComparedManifests

    read = [resolved_from(Path(where), profile) for where in (old, new)]
    asked = [asked_by_experiment(frozen) for _, frozen in read]
    before, after = (loaded.experiment for loaded, _ in read)
    units = unit_changes(asked[0], asked[1], Places(before, after))
    return ComparedManifests(old, new, spec_changes(before, after), units)


def _manifests(old: str, new: str, store: str) -> ComparedManifests:
    from controller.cli.diff_text import ComparedManifests
    from workloads.results.effects import effects

    before, after = (_manifest(where, store) for where in (old, new))
    units = unit_changes(asked_by_manifest(before), asked_by_manifest(after))
    return ComparedManifests(old, new, (), units, effects(before, after))


def _manifest(where: str, store: str) -> Manifest:
    """Exits 4 if the manifest does not exist; raises StoreError."""
    if not is_version(where):
        return manifest_at(where)
    opened = store_at(store)
    frozen = version_named(opened, where)
    return manifest_of(opened, frozen.name, frozen.uid8)
