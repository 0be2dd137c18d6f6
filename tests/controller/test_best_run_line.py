"""`potstill run` ends with a table and a sentence about the best run."""

from pathlib import Path

import pytest

from controller.cli.common import wide_console
from controller.cli.last_checkpoints import last_checkpoints, last_checkpoints_table
from controller.cli.results import best_run_line
from tests.results.made_experiment import MadeRun, experiment
from workloads.api import store_keys
from workloads.storage.base import Store, open_store

KEY = store_keys.manifest_key("made", "0" * 8)


def store_with(folder: Path, manifest: bytes | None) -> Store:
    store = open_store((folder / "store").as_uri())
    if manifest is not None:
        store.put(KEY, manifest)
    return store


def test_it_is_the_reports_sentence(tmp_path: Path) -> None:
    runs = (MadeRun("low", (100,)), MadeRun("high", (100,)))
    codes = {
        ("base", "sums", 4096): "R" * 40,
        ("low@100", "sums", 4096): "W" * 40,
        ("high@100", "sums", 4096): "R" * 40,
    }
    manifest = experiment(runs, codes, problems={"sums": 40})
    line = best_run_line(store_with(tmp_path, manifest.to_json()), "made", "0" * 8)
    assert line is not None
    assert line.startswith("Best run: high (high@100), ahead of low in accuracy on sums by 100.0 points")


def test_there_is_none_before_there_is_a_manifest(tmp_path: Path) -> None:
    assert best_run_line(store_with(tmp_path, None), "made", "0" * 8) is None


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    line = best_run_line(store_with(tmp_path, b"{}"), "made", "0" * 8)
    assert line is not None
    assert KEY in line
    assert "cannot be read" in line


def test_the_table_has_the_base_and_the_end_of_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    runs = (MadeRun("low", (100, 200)), MadeRun("high", (100,)))
    codes = {
        ("base", "sums", 4096): "R" * 10 + "w" * 30,
        ("low@100", "sums", 4096): "W" * 40,
        ("low@200", "sums", 4096): "R" * 20 + "W" * 20,
    }
    manifest = experiment(runs, codes, problems={"sums": 40})
    found = {row.model: row.cells for row in last_checkpoints(manifest)}
    assert list(found) == ["base", "low@200", "high@100"]
    assert found["high@100"] == (None,)
    wide_console().print(last_checkpoints_table(manifest))
    printed = capsys.readouterr().out
    assert "low@200" in printed
    assert "low@100" not in printed
    assert "50.0% (20/40)" in printed
    assert "25.0% (10/40)" in printed
