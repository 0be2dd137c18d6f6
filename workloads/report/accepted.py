"""The accepted experiment: its time, its content, and the time of its last committed result."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from workloads.api.experiment import FrozenExperiment


@dataclass(frozen=True)
class AcceptedExperiment:
    """`text`: YAML. `last_result`: None if nothing is committed."""

    at: datetime
    last_result: datetime | None
    text: str

    @property
    def seconds(self) -> float | None:
        """Seconds from acceptance to the last result; None if all results were in the store before."""
        if self.last_result is None or self.last_result < self.at:
            return None
        return (self.last_result - self.at).total_seconds()


def accepted(frozen: FrozenExperiment, last_result: datetime | None) -> AcceptedExperiment:
    return AcceptedExperiment(frozen.accepted, last_result, spec_text(frozen))


def spec_text(frozen: FrozenExperiment) -> str:
    """Returns the accepted experiment as YAML, with defaults; problem ids become their number, and empty fields are
    left out.

    The profile is left out: it belongs to the administrator and may contain environment variables.
    """
    asked = frozen.model_dump(mode="json", by_alias=True, exclude={"profile", "schema_version"})
    for benchmark in asked["benchmarks"]:
        for part in benchmark["parts"]:
            part["problems"] = len(part["problems"]) or "all"
    return str(yaml.safe_dump(_stated(asked), sort_keys=False, allow_unicode=True, width=110))


def _stated(value: Any) -> Any:
    """Leaves out fields that are null or empty."""
    if isinstance(value, dict):
        kept = {name: _stated(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, "", [], {})}
    return [_stated(item) for item in value] if isinstance(value, list) else value
