"""The figures of docs/performance.md are those that the raw output files hold and the programs in perf/ compute."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from perf.evaluate import batches, costs

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "performance.md").read_text()
RAW = REPOSITORY / "perf" / "results" / "evaluate-h200" / "evaluate.jsonl"
LINES: list[dict[str, Any]] = [json.loads(line) for line in RAW.read_text().splitlines()]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table whose head begins with these words, without their emphasis."""
    lines = PAGE[PAGE.index(f"| {heading}") :].splitlines()[2:]
    table = lines[: next(place for place, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in table]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


@pytest.mark.parametrize("cells", rows("start, slots"), ids=lambda cells: cells[1])
def test_each_start_took_so_long(cells: list[str]) -> None:
    found = [line["seconds"] for line in LINES if line["name"] == cells[1] and line["measured"] == "start"]
    assert [round(seconds) for seconds in found] == [numbers(cells[2])[0]]


@pytest.mark.parametrize("cells", rows("adapters change"), ids=lambda cells: f"{cells[2]}-{cells[3]}")
def test_each_group_was_so_fast(cells: list[str]) -> None:
    seconds, rate = numbers(cells[4])[0], numbers(cells[5])[0]
    groups = [line for line in LINES if line["name"] == cells[2] and line["measured"] == "group"]
    assert (seconds, rate) in [(round(one["seconds"], 1), round(one["tokens_per_second"])) for one in groups]


def test_the_page_shows_what_a_batch_is_computed_to_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["batches", str(RAW)])
    batches.main()
    assert capsys.readouterr().out in PAGE


NAMES = {
    "attention, 58% completed": ["lengths-as-in-16-02"],
    "attention, all at the limit": ["rows-512-cold"],
    "attention + experts in slots, all at the limit": ["experts-served", "experts-served-48-layers"],
}


@pytest.mark.parametrize("adapters", NAMES)
def test_the_page_shows_what_all_of_16_02_costs(
    adapters: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["costs", str(RAW), "--start", "rows-512", "--groups", *NAMES[adapters]])
    costs.main()
    computed = [
        (seconds, float(share[1]) if (share := re.search(r"; ([\d.]+) of one", line)) else None)
        for line in capsys.readouterr().out.splitlines()[1:]
        for seconds in numbers(line.split("GPU-seconds")[0])[-1:]
    ]
    shown = [cells for cells in rows("adapters, outputs") if cells[0] == adapters]
    assert [[(numbers(cells[2])[0], None), (numbers(cells[3])[0], numbers(cells[4])[0])] for cells in shown] == [
        computed[0:2],
        computed[3:5],
    ]
    assert [numbers(cells[5])[0] for cells in shown] == [computed[2][1], computed[5][1]]
