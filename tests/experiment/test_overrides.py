"""A run may override every field of training, under the same name and within the same limits."""

from typing import Any

import pytest

from controller.experiment.models import RunSpec, TrainingSpec

TRAINING = TrainingSpec.model_json_schema(by_alias=True)["properties"]
RUN = RunSpec.model_json_schema(by_alias=True)["properties"]


def limits(field: dict[str, Any]) -> list[dict[str, Any]]:
    """The types that a field may have with their limits, without null, description and default."""
    kinds = field.get("anyOf", [field])
    said = [
        {key: value for key, value in kind.items() if key not in {"description", "default", "title"}} for kind in kinds
    ]
    return [kind for kind in said if kind != {"type": "null"}]


@pytest.mark.parametrize("name", TRAINING)
def test_a_run_may_override_the_field_within_the_same_limits(name: str) -> None:
    assert limits(RUN[name]) == limits(TRAINING[name])
    assert RUN[name]["default"] is None
