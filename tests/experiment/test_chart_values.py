"""The chart's values.yaml, its schema and the table in its README.md agree."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.chart_values import WHOLE, documented, with_values

CHARTS = Path(__file__).parents[2] / "charts"
NAMES = ["potstill", "potstill-crds"]


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Each value by its path; a mapping that Kubernetes defines is one."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in WHOLE:
            found |= leaves(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def fields(schema: dict[str, Any], path: str = "") -> set[str]:
    found = set[str]()
    for name, field in schema.get("properties", {}).items():
        found |= fields(field, f"{path}{name}.") if "properties" in field else {path + name}
    return found


@pytest.mark.parametrize("chart", NAMES)
def test_every_value_is_described_with_its_default(chart: str) -> None:
    text = (CHARTS / chart / "values.yaml").read_text()
    rows = {path: (default, description) for path, default, description in documented(text)}
    assert [path for path, (_, description) in rows.items() if not description] == []
    assert {path: yaml.safe_load(default) for path, (default, _) in rows.items()} == leaves(yaml.safe_load(text))


@pytest.mark.parametrize("chart", NAMES)
def test_the_schema_knows_every_value_and_no_other(chart: str) -> None:
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    accepted = {"global", *(["crds.enabled"] if chart == "potstill" else [])}
    assert fields(schema) - accepted == set(leaves(values))


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the markers"):
        with_values("# a chart", "key: 1")
