"""Models' programs cannot see distributions that extend Potstill."""

from pathlib import Path

import pytest

from tests.seams.toy import install
from workloads.sandbox.order import Order, Outcome, SandboxLimits
from workloads.sandbox.pool import run_all
from workloads.typed_json import decode, encode_input

PROGRAM = """
import os, sys

def seen():
    try:
        import toy
    except ImportError:
        return [name for name in os.environ if name.startswith(("PYTHONPATH", "TOY"))] + [p for p in sys.path if "site_of_toy" in p]
    return ["toy is imported"]
"""


def test_a_program_cannot_import_an_added_part_nor_see_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(install(tmp_path / "site_of_toy")))
    monkeypatch.setenv("TOY_FOLDER", str(tmp_path))
    limits = SandboxLimits(cpu_seconds=(10.0,), total_cpu_seconds=20.0)
    order = Order("key", PROGRAM, "seen", (encode_input([]),), limits)
    (outcome,) = run_all([order], workers=1)
    assert isinstance(outcome, Outcome)
    assert outcome.end == "finished", outcome
    assert decode(outcome.values[0]) == []
