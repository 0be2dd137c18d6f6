"""docs/models.md shows every family with the measured values."""

import json

from tests.models.table import FIGURES, PAGE, rows
from workloads.models import FAMILIES


def test_the_table_is_made_from_the_figures() -> None:
    figures = json.loads(FIGURES.read_text())
    assert "\n".join(rows(figures)) in PAGE.read_text()
    assert set(figures) <= {family.name for family in FAMILIES.values()}
    assert all(found["losses"] < 1e-6 for found in figures.values())
