"""Runs the commands of docs/results.md."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.results.made_manifest import evaluation, manifest
from workloads.results.gate_simulation import table

DOCS = (Path(__file__).parents[2] / "docs" / "results.md").read_text()


def test_the_manifest_loads_into_pandas_in_the_line_that_the_page_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_bytes(
        manifest(evaluation("base", "RRW"), evaluation("mine@100", "RnW")).to_json()
    )
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec("import json, pandas\n" + block[1], names)
    evaluations = names["evaluations"]
    assert list(evaluations["model"]) == ["base", "mine@100"]
    assert list(evaluations["engine.name"]) == ["vllm", "vllm"]


@pytest.mark.slow
def test_the_operating_characteristics_on_the_page_are_what_the_program_prints() -> None:
    assert table() in DOCS
