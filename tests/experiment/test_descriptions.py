"""`kubectl explain` and the field references describe every field."""

from collections.abc import Iterator
from typing import Any

import pytest

from controller.crd import spec_schema, status_schema, structural
from controller.experiment.profile import Profile


def silent(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Paths of fields without a description."""
    for name, field in schema.get("properties", {}).items():
        place = f"{path}.{name}"
        if not field.get("description"):
            yield place
        yield from silent(field, place)
        yield from silent(field.get("items", {}), f"{place}[]")
        if isinstance(field.get("additionalProperties"), dict):
            yield from silent(field["additionalProperties"], f"{place}.NAME")


def profile_schema() -> dict[str, Any]:
    source = Profile.model_json_schema(by_alias=True)
    kept = {name: field for name, field in source["properties"].items() if name != "engine"}
    return structural({**source, "properties": kept}, source["$defs"])


@pytest.mark.parametrize(
    ("name", "schema"), [("spec", spec_schema()), ("status", status_schema()), ("profile", profile_schema())]
)
def test_every_field_is_described(name: str, schema: dict[str, Any]) -> None:
    assert list(silent(schema, name)) == []
