"""Versions of experiments in a store. Each change of an experiment's content makes a new version: `name@version`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from workloads.accepted import read_experiment
from workloads.api import store_keys
from workloads.api.counts import EvaluationCounts, evaluation_counts
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.results.asked import CHECKPOINT, OUTPUTS, asked_by_experiment
from workloads.results.changes import unit_changes
from workloads.stages.train import TRAIN
from workloads.storage.base import NotFound, Store, StoreError
from workloads.untrusted import printable
from workloads.words import count_of

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
EXPERIMENT_KEY = re.compile(r"experiments/(?P<name>[^/]+)/(?P<version>[0-9a-f]{8})/experiment\.json")
NOT_IN_DIGEST = {"accepted", "uid8", "revision", "limits", "profile", "spec_sha256", "stop_token_ids"}
"""Fields of an accepted experiment that do not affect its digest."""
BY_UNIT = {"base", "base_name", "runs", "benchmarks", "sampling", "engine", "epoch"}
"""Fields that `differences` does not compare as a whole, because `unit_changes` names their changed parts."""
WORDS = {"allow_unsandboxed": "allowUnsandboxed", "base_thinking": "base.thinking"}
"""Other fields whose name in the experiment file differs."""
RUN_FIELDS = {
    "thinking": "thinking",  # unit_changes reports it only for a checkpoint that both versions have
    "budget_tokens": "budgetTokens",
    "domain": "domain",
    "label": "label",
    "sharding": "sharding",
    "epochs": "epochs",
}
BENCHMARK_FIELDS = {
    "base_parts": "base",
    "checkpoint_parts": "checkpoints",
    "completion": "completion",
    "completion_pattern": "completionPattern",
    "confirm": "confirm",
    "domain": "domain",
    "grader": "grader",
}
FIELDS_SHOWN = 10
VERSIONS_COMPARED = 3
"""Other versions that `earlier_versions_line` compares, at most."""
VERSIONS_IN_ERROR = 12
"""Versions that the error for an unknown version lists, at most."""


@dataclass(frozen=True)
class Version:
    """`manifest`: None if there are no results yet. `error`: why the version cannot be read; `frozen` is then None."""

    name: str
    uid8: str
    frozen: FrozenExperiment | None
    manifest: Manifest | None = None
    error: str = ""

    @property
    def id(self) -> str:
        return f"{self.name}@{self.uid8}"

    @property
    def phase(self) -> str:
        if self.error:
            return "unreadable"
        if self.manifest is None:
            return "accepted"
        return "unfinished" if self.manifest.state == "running" else self.manifest.state

    @property
    def checkpoints(self) -> tuple[int, int]:
        """Returns (committed checkpoints, all checkpoints that the runs will make)."""
        models = self.manifest.models if self.manifest else ()
        committed = sum(model.kind == "checkpoint" and model.content is not None for model in models)
        runs = self.frozen.runs if self.frozen else ()
        return committed, sum(len(run.checkpoints) for run in runs if run.role == "run")

    @property
    def evaluations(self) -> EvaluationCounts:
        found = self.manifest.evaluations if self.manifest else ()
        return evaluation_counts((item.model, item.benchmark, item.state) for item in found)


def is_version(text: str) -> bool:
    """Returns whether `text` has the form name@version; the version need not exist.

    The path of an existing file is not a version, even with an @.
    """
    return "@" in text and "/" not in text and not text.endswith((".yaml", ".yml")) and not Path(text).is_file()


def versions_in(store: Store, name: str | None = None) -> tuple[Version, ...]:
    """Returns all versions, or those of one name: names in order, the newest version first. Raises StoreError."""
    prefix = store_keys.EXPERIMENTS if name is None else f"{store_keys.EXPERIMENTS}{name}/"
    keys = (EXPERIMENT_KEY.fullmatch(info.key) for info in store.list(prefix))
    found = [read_version(store, key["name"], key["version"]) for key in keys if key]
    return tuple(sorted(found, key=lambda one: (one.name, -_accepted(one).timestamp())))


def read_version(store: Store, name: str, uid8: str) -> Version:
    """Returns the version. If it cannot be read, it has `error` and no `frozen`."""
    try:
        frozen, _ = read_experiment(store, store_keys.experiment_key(name, uid8))
        return Version(name, uid8, frozen, read_manifest(store, name, uid8))
    except StoreError as error:
        return Version(name, uid8, None, error=str(error))


def read_manifest(store: Store, name: str, uid8: str) -> Manifest | None:
    """Returns None before the first result. Raises StoreError, also for a manifest that this release of Potstill
    cannot read.
    """
    key = store_keys.manifest_key(name, uid8)
    try:
        return Manifest.model_validate_json(store.get(key))
    except NotFound:
        return None
    except ValidationError as error:
        raise StoreError(f"{store.url}/{key} is not a manifest that this release of Potstill can read") from error


def _accepted(version: Version) -> datetime:
    return version.frozen.accepted if version.frozen else datetime.fromtimestamp(0, UTC)


def version_named(store: Store, text: str) -> FrozenExperiment:
    """Returns the experiment that `name@version` names; the version may be abbreviated.

    Exits 4 unless exactly one matches, and lists the versions that exist; raises StoreError.
    """
    name, _, version = text.partition("@")
    known = versions_in(store, name) if NAME.fullmatch(name) else ()
    found = [one for one in known if version and one.uid8.startswith(version)]
    if len(found) != 1:
        others = found or known or versions_in(store)
        listed = ", ".join(one.id for one in others[:VERSIONS_IN_ERROR]) or "none"
        more = ", ... (potstill list shows all)" if len(others) > VERSIONS_IN_ERROR else ""
        typer.echo(printable(f"{store.url} has {len(found) or 'no'} {text}; there are: {listed}{more}"), err=True)
        raise typer.Exit(4)
    if found[0].frozen is None:
        raise StoreError(found[0].error)
    return found[0].frozen


def differences(old: FrozenExperiment, new: FrozenExperiment) -> tuple[str, ...]:
    """Fields of the experiment file, without their place under spec and runs, in which the two differ.

    If only one of the two states `epochs` for a run, onShort of that run is left out, because `epochs` sets it to
    repeat.
    """
    units = unit_changes(asked_by_experiment(old), asked_by_experiment(new))
    epochs = [{run.name: run.epochs for run in side.runs} for side in (old, new)]
    sets_on_short = {name for name in epochs[0] if (epochs[0][name] is None) != (epochs[1].get(name) is None)}
    fields = [
        _short(change.path)
        for unit in units
        for change in unit.because
        if not (unit.kind == TRAIN.unit_kind and unit.name in sets_on_short and change.path.endswith(".onShort"))
    ]
    fields += [
        f"run {unit.name}" for unit in units if unit.kind == TRAIN.unit_kind and unit.standing in ("added", "removed")
    ]
    before, after = (item.model_dump(mode="json", exclude=NOT_IN_DIGEST) for item in (old, new))
    fields += _of_items(before["runs"], after["runs"], RUN_FIELDS, "")
    names = [{item["name"] for item in side["benchmarks"]} for side in (before, after)]
    fields += [f"benchmark {name}" for name in sorted(names[0] ^ names[1])]
    fields += _of_items(before["benchmarks"], after["benchmarks"], BENCHMARK_FIELDS, "benchmarks[{}].")
    fields += [WORDS.get(name, name) for name in after if name not in BY_UNIT and before.get(name) != after[name]]
    if not fields:
        fields = [name for name in after if before.get(name) != after[name]]
    # CHECKPOINT and OUTPUTS say only that an earlier unit changed, and that unit is already listed.
    return tuple(dict.fromkeys(field for field in fields if field not in (CHECKPOINT, OUTPUTS)))


def _of_items(
    old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], fields: dict[str, str], place: str
) -> Iterator[str]:
    """Yields the changed ones of `fields`, which are in no unit's digest, for each run or benchmark that both have.

    `place`: the prefix, with {} for the item's name.
    """
    before = {item["name"]: item for item in old}
    for item in new:
        known = before.get(item["name"], item)
        for field, word in fields.items():
            if known.get(field) != item.get(field):
                yield place.format(item["name"]) + word


def _short(path: str) -> str:
    return re.sub(r"^spec\.(runs\[[^\]]*\]\.|training\.|evaluation\.)?", "", path.partition(",")[0])


def differs_in(fields: Sequence[str]) -> str:
    more = f" and {len(fields) - FIELDS_SHOWN} more" if len(fields) > FIELDS_SHOWN else ""
    return f"differs in {', '.join(fields[:FIELDS_SHOWN])}{more}" if fields else "with no difference"


def earlier_versions_line(store: Store, frozen: FrozenExperiment, now: datetime) -> str | None:
    """Returns text that names other versions of the experiment, the newest first, with their differences.

    None if there are none.
    """
    others = [one for one in versions_in(store, frozen.name) if one.uid8 != frozen.uid8]
    if not others:
        return None
    named = "; ".join(_described(others[:VERSIONS_COMPARED], frozen, now))
    more = "; more: potstill list" if len(others) > VERSIONS_COMPARED else ""
    count = count_of(len(others), "other version")
    return f"{count} of {frozen.name} in the store: {named}{more}"


def _described(versions: Sequence[Version], frozen: FrozenExperiment, now: datetime) -> Iterator[str]:
    for one in versions:
        if one.frozen is None:
            yield f"{one.id} (unreadable)"
        else:
            state = f"{age(one.frozen.accepted, now)} old, {one.phase}"
            yield f"{one.id} ({state}), {differs_in(differences(one.frozen, frozen))}"


def age(then: datetime, now: datetime) -> str:
    seconds = max(0, int((now - then).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
