"""Turns an Experiment object into the accepted experiment. It is stored once; later only additions are accepted."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.experiment.errors import SpecError, problems_of
from controller.experiment.models import Experiment
from controller.experiment.profile import Profile
from controller.experiment.resolve import resolve
from controller.experiment.validate import check
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.registry import RegistryError
from workloads.storage.base import AlreadyExists, NotFound, Store
from workloads.storage.content_digest import ContentError

Json = dict[str, Any]
DEFAULT_PROFILE = "default"


class Refused(Exception):
    """The spec cannot be accepted. `reason` is CamelCase, the message says what to change."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Accepted:
    frozen: FrozenExperiment
    profile: Profile


def uid8_of(item: Json) -> str:
    """Returns the first eight hex digits of the object's UID, so that an Experiment deleted and applied again is a
    different one.
    """
    return str(item["metadata"]["uid"]).replace("-", "")[:8]


def parse(item: Json) -> Experiment:
    """Raises Refused with every problem."""
    try:
        experiment = Experiment.model_validate(
            {key: item[key] for key in ("apiVersion", "kind", "metadata", "spec")}, by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise Refused("InvalidSpec", "; ".join(str(p) for p in problems_of(error, Experiment))) from error
    if problems := check(experiment.spec):
        raise Refused("InvalidSpec", "; ".join(str(p) for p in problems))
    return experiment


def accept(item: Json, profiles: dict[str, Profile], store: Store, now: datetime) -> Accepted:
    """Returns the stored experiment with the spec's additions. Writes it to the store if it is new.

    Raises Refused, StoreError.
    """
    experiment = parse(item)
    key = store_keys.experiment_key(experiment.metadata.name, uid8_of(item))
    standing, etag = _standing(store, key)
    profile = _profile(experiment, standing, profiles)
    asked = _resolve(experiment, profile, now, uid8_of(item))
    if standing is None:
        try:
            store.put_new(key, asked.to_json())
        except AlreadyExists:
            return accept(item, profiles, store, now)
        return Accepted(asked, profile)
    grown = _grown(standing, asked)
    if grown == standing:
        return Accepted(standing, profile)
    try:
        store.put_if(key, grown.to_json(), etag)
    except AlreadyExists:
        return accept(item, profiles, store, now)
    return Accepted(grown, profile)


def _standing(store: Store, key: str) -> tuple[FrozenExperiment | None, str | None]:
    try:
        data, etag = store.get_with_etag(key)
    except NotFound:
        return None, None
    try:
        return FrozenExperiment.model_validate_json(data), etag
    except ValidationError as error:
        message = f"{key} was written by a version of Potstill that this one cannot read: it is not used"
        raise Refused("UnknownSchema", message) from error


def _profile(experiment: Experiment, standing: FrozenExperiment | None, profiles: dict[str, Profile]) -> Profile:
    """Returns the profile as it was at acceptance, because a later edit of the profile must not change running
    experiments.
    """
    if standing is not None:
        try:
            return Profile.model_validate(standing.profile, by_alias=True, by_name=False)
        except ValidationError as error:
            problems = "; ".join(str(problem) for problem in problems_of(error, Profile))
            raise Refused("InvalidSpec", f"the profile that was accepted cannot be used here: {problems}") from error
    name = experiment.spec.profile or DEFAULT_PROFILE
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise Refused("UnknownProfile", f"spec.profile: there is no profile {name}; profiles: {known}")
    return profiles[name]


def _resolve(experiment: Experiment, profile: Profile, now: datetime, uid8: str) -> FrozenExperiment:
    try:
        return resolve(experiment, Path(profile.directory or "/nonexistent"), profile, now, uid8)
    except SpecError as error:
        raise Refused("InvalidSpec", "; ".join(str(problem) for problem in error.problems)) from error
    except (ContentError, RegistryError) as error:
        raise Refused("InvalidSpec", str(error)) from error


def _grown(standing: FrozenExperiment, asked: FrozenExperiment) -> FrozenExperiment:
    """Returns `standing` with the additions of `asked`. Raises Refused if `asked` changes or removes something.

    The API server refuses such edits already. This check is for clusters with an older CRD, which lacks those rules.
    """
    for field in ("base", "sampling", "budgets", "engine", "epoch", "stop_token_ids"):
        if getattr(standing, field) != getattr(asked, field):
            raise Refused("ImmutableField", f"{field} cannot change in a live experiment: use a new experiment name")
    for kind, before, after in (
        ("run", {run.name: run.inputs for run in standing.runs}, {run.name: run.inputs for run in asked.runs}),
        (
            "benchmark",
            {b.name: (b.source.sha256, b.parts, b.base_prompting) for b in standing.benchmarks},
            {b.name: (b.source.sha256, b.parts, b.base_prompting) for b in asked.benchmarks},
        ),
    ):
        for name, inputs in before.items():
            if name not in after:
                raise Refused(
                    "ImmutableField",
                    f"{kind} {name} was removed from the spec; you can add to it, but not remove from it",
                )
            if after[name] != inputs:
                raise Refused("ImmutableField", f"{kind} {name} has changed; add another under a new name")
    grown = asked.model_copy(
        update={
            "accepted": standing.accepted,
            "revision": standing.revision,
            "profile": standing.profile,
            "stages": standing.stages,
        }
    )
    unchanged = grown.model_copy(update={"spec_sha256": standing.spec_sha256}) == standing
    return standing if unchanged else grown.model_copy(update={"revision": standing.revision + 1})
