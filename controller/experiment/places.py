"""Compares two experiment files field by field, and finds the field that states a unit's input. Pure."""

import re
from collections.abc import Iterator

from pydantic import BaseModel, JsonValue

from controller.experiment.models import Experiment, ExperimentSpec, TrainingSpec
from workloads.results.changes import Change, field_changes

RUN_FIELD = re.compile(r"spec\.runs\[(?P<run>[^\]]+)\]\.(?P<field>\w+)(?P<rest>.*)")
DEFAULTS = {field.alias or name for name, field in TrainingSpec.model_fields.items()}


def spec_changes(old: Experiment, new: Experiment) -> tuple[Change, ...]:
    """Returns every field whose stated or default value differs; items of lists are identified by name."""
    return field_changes(*(dict(_flat("spec", _dump(item.spec))) for item in (old, new)))


def _dump(model: BaseModel) -> JsonValue:
    dumped: JsonValue = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _flat(place: str, value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{place}.{key}", item)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from _flat(f"{place}[{name}]", item)
    else:
        yield place, value


class Places:
    """The place of a training's field: under the run if either file states it there, else under spec.training."""

    def __init__(self, *experiments: Experiment) -> None:
        self._stated = {place for item in experiments for place in _stated_by_runs(item.spec)}

    def __call__(self, path: str) -> str:
        found = RUN_FIELD.fullmatch(path)
        if found is None or found["field"] not in DEFAULTS or (found["run"], found["field"]) in self._stated:
            return path
        return f"spec.training.{found['field']}{found['rest']}"


def _stated_by_runs(spec: ExperimentSpec) -> Iterator[tuple[str, str]]:
    for run in spec.runs:
        dumped = run.model_dump(mode="json", by_alias=True, exclude_none=True)
        yield from ((run.name, field) for field in dumped)
