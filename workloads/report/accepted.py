"""The experiment as it was accepted: when, what it asks for, and when its last result was committed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from workloads.api.experiment import FrozenExperiment


@dataclass(frozen=True)
class AcceptedExperiment:
    """`text` is YAML for people. `last_result`: None while nothing is committed."""

    at: datetime
    last_result: datetime | None
    text: str

    @property
    def seconds(self) -> float | None:
        """From acceptance to the last result; None when all results were in the store before."""
        if self.last_result is None or self.last_result < self.at:
            return None
        return (self.last_result - self.at).total_seconds()


def accepted(frozen: FrozenExperiment, last_result: datetime | None) -> AcceptedExperiment:
    return AcceptedExperiment(frozen.accepted, last_result, spec_text(frozen))


def spec_text(frozen: FrozenExperiment) -> str:
    """What was asked, with defaults filled in, as YAML: problem ids as their number, fields without a value left out.

    The admin's profile is left out: it says how pods are started, and may hold environment variables.
    """
    asked = frozen.model_dump(mode="json", by_alias=True, exclude={"profile", "schema_version"})
    for benchmark in asked["benchmarks"]:
        for part in benchmark["parts"]:
            part["problems"] = len(part["problems"]) or "all"
    return str(yaml.safe_dump(_stated(asked), sort_keys=False, allow_unicode=True, width=110))


def _stated(value: Any) -> Any:
    """Without fields that are null or empty."""
    if isinstance(value, dict):
        kept = {name: _stated(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, "", [], {})}
    return [_stated(item) for item in value] if isinstance(value, list) else value
