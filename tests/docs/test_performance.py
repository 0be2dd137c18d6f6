"""Numbers in docs/performance.md equal the raw output and the output of perf/'s programs."""

import json
import math
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest

from perf.evaluate import batches, costs
from perf.train import where

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "performance.md").read_text()
SHIPPED, OLDER = PAGE.split("## Training, older versions")
RESULTS = REPOSITORY / "perf" / "results"
RAW = RESULTS / "evaluate-h200" / "evaluate.jsonl"
Case = dict[str, Any]


def rows(heading: str, page: str = OLDER) -> list[list[str]]:
    """The cells of the first table of `page` whose header begins with these words, without emphasis."""
    lines = page[page.index(f"| {heading}") :].splitlines()[2:]
    table = lines[: next(place for place, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in table]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def of_both(heading: str) -> list[tuple[str, list[str]]]:
    """(folder of results, cells) of each row of the table of the shipped versions and of that of the older ones."""
    kind = "train" if heading.startswith("trained") else "evaluate"
    pages = (("shipped-h200-x2", SHIPPED), (f"{kind}-h200", OLDER))
    return [named_folder(folder, cells) for folder, page in pages for cells in rows(heading, page)]


def named_folder(folder: str, cells: list[str]) -> tuple[str, list[str]]:
    """A cell that ends with (`folder`) states that its row comes from another folder."""
    for place, cell in enumerate(cells):
        if found := re.fullmatch(r"(.+) \(`(\S+)`\)", cell):
            return found[2], [*cells[:place], found[1], *cells[place + 1 :]]
    return folder, cells


@cache
def measured(folder: str) -> list[Case]:
    return [json.loads(line) for line in (RESULTS / folder / "evaluate.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("folder", "cells"), of_both("start, slots for"))
def test_each_start_took_so_long(folder: str, cells: list[str]) -> None:
    lines = measured(folder)
    found = [line["seconds"] for line in lines if line["name"] == cells[1] and line["measured"] == "start"]
    assert [round(seconds) for seconds in found] == [numbers(cells[2])[0]]


@pytest.mark.parametrize(("folder", "cells"), of_both("adapters change"))
def test_each_group_was_so_fast(folder: str, cells: list[str]) -> None:
    seconds, rate = numbers(cells[4])[0], numbers(cells[5])[0]
    groups = [line for line in measured(folder) if line["name"] == cells[2] and line["measured"] == "group"]
    requests = math.prod(int(number) for number in numbers(cells[3].partition("%")[0])[:-1])
    held = [(one["group"] or 1) * one["requests_each"] for one in groups]
    rates = [(round(one["seconds"], 1), round(one["tokens_per_second"])) for one in groups]
    assert (requests, seconds, rate) in [(count, *rest) for count, rest in zip(held, rates, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("program", [batches, costs])
def test_the_page_shows_what_is_computed_of_a_batch_and_of_joining(
    program: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program.__name__, str(RAW)])
    program.main()
    told = capsys.readouterr().out
    assert len(told.splitlines()) > 2
    assert told in PAGE


def simulated() -> dict[str, dict[tuple[str, str], list[float]]]:
    """By the command, arrivals and way: GPU-seconds, their share of an engine each, mean and longest wait."""
    text = (RAW.parents[1] / "group_commit.txt").read_text()
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for part in text.split("$ python -m perf.group_commit ")[1:]:
        command, _, *lines = part.strip().splitlines()
        told = (re.fullmatch(r"(backlog|together|seconds apart|apart) +(.+?)  +\d+ +(.+)", line) for line in lines)
        found[command.split("--groups ")[1]] = {(m[1], m[2]): numbers(m[3]) for m in told if m}
    return found


ARRIVALS = ("backlog", "together", "seconds apart", "apart")


def test_the_page_shows_what_was_simulated_of_16_02() -> None:
    found = simulated()["together"]
    ways = ("without joining", "group commit", "group commit, gathers 120 s", "group commit, lingers")
    for arrivals, cells in zip(ARRIVALS, rows("checkpoints come"), strict=True):
        each, *_ = found[arrivals, "an engine per checkpoint"]
        assert numbers(cells[1]) == [each]
        for way, cell in zip(ways, (*cells[2:4], *cells[5:7]), strict=True):
            assert numbers(cell) == found[arrivals, way][:2]
        assert numbers(cells[7])[0] == found[arrivals, "group commit"][3]


@pytest.mark.parametrize(
    ("line", "groups"),
    list(
        enumerate(
            [
                "together --limit 4096",
                "rows-512-cold",
                "experts-4-slots",
                "experts-4096-cold experts-4096 --limit 4096",
                "experts-4096-fp8-cold experts-4096-fp8 experts-4096-fp8-rows-cold --limit 4096",
                "experts-4-slots --completed 0",
                "experts-2048-cold experts-2048",
            ]
        )
    ),
)
def test_the_page_shows_what_was_simulated_of_other_cases(line: int, groups: str) -> None:
    found, cells = simulated()[groups], rows("| all at once (1/3)")[line]
    assert [numbers(cell)[0] for cell in cells[1:5]] == [found[arrivals, "group commit"][1] for arrivals in ARRIVALS]
    assert numbers(cells[5]) == [found[arrivals, "group commit"][3] for arrivals in ARRIVALS[1:]]


@cache
def trained(folder: str, file: str = "throughput.json") -> dict[str, Case]:
    cases = json.loads((RESULTS / folder / file).read_text())["cases"]
    return {case["case"]: case for case in cases if "tokens_per_second" in case}


@pytest.mark.parametrize(("folder", "cells"), of_both("trained | documents"))
def test_each_training_was_so_fast(folder: str, cells: list[str]) -> None:
    target, packed = cells[0].replace(" ", ""), "packed" in cells[1]
    ours = trained(folder)[f"potstill, {target}, {'packed 1.5K' if packed else '4096'}"]
    theirs = trained(folder)[f"peft, {target}, {'padded 1.5K' if packed else '4096'}"]
    assert numbers(cells[2])[0] == round(ours["tokens_per_second"])
    assert numbers(cells[3])[0] == round(ours["tflops"])
    assert numbers(cells[4])[0] == round(ours["share"] * 100, 1)
    assert numbers(cells[5])[0] == round(ours["peak_gib"], 1)
    assert numbers(cells[6]) == [round(theirs["tokens_per_second"]), *([8192] if packed else [])]
    assert numbers(cells[7])[0] == round(theirs["peak_gib"], 1)
    assert numbers(cells[8])[0] == round(ours["tokens_per_second"] / theirs["tokens_per_second"], 1)


GENERAL = "throughput-general.json"
GENERAL_CASES = ("4096", "padded 1.5K")


@pytest.mark.parametrize(("row", "ours", "theirs"), [(0, "4096", "4096"), (1, "packed 1.5K", "padded 1.5K")])
def test_the_general_trainer_was_so_fast(row: int, ours: str, theirs: str) -> None:
    cells, found = rows("general trainer", SHIPPED)[row], trained("shipped-h200", GENERAL)
    fast = trained("shipped-h200")[f"potstill, attention+experts, {ours}"]
    general, peft = (found[f"{system}, attention+experts, {theirs}"] for system in ("general", "peft"))
    rates = [round(case["tokens_per_second"]) for case in (fast, general, peft)]
    assert [numbers(cells[column])[0] for column in (1, 2, 4)] == rates
    assert [numbers(cells[column])[0] for column in (3, 5)] == [round(one["peak_gib"], 1) for one in (general, peft)]
    assert peft["tokens_per_micro_batch"] == (numbers(cells[4])[1:] or [16_384])[0]


def test_the_general_trainer_is_so_many_times_as_fast_as_peft() -> None:
    found, told = trained("shipped-h200", GENERAL), PAGE[PAGE.index("On documents of one length it has") :]
    ratios = [
        found[f"general, attention+experts, {case}"]["tokens_per_second"]
        / found[f"peft, attention+experts, {case}"]["tokens_per_second"]
        for case in GENERAL_CASES
    ]
    assert numbers(told)[:2] == [round(ratio, 2) for ratio in ratios]


def test_the_general_trainer_with_the_loss_before_was_so_fast() -> None:
    found, told = trained("shipped-h200"), PAGE[PAGE.index("the trainer then made") :]
    general = [found[f"general, attention+experts, {case}"] for case in GENERAL_CASES]
    rates = [round(case["tokens_per_second"]) for case in general]
    assert numbers(told)[:4] == [*rates, *(round(case["peak_gib"], 1) for case in general)]


def test_a_loss_took_so_long() -> None:
    lines = {line.split()[0]: line for line in (RESULTS / "shipped-h200" / "loss.txt").read_text().splitlines()}
    ours, theirs = (numbers(lines[name].partition(" ")[2]) for name in ("general", "transformers"))
    told = numbers(PAGE[PAGE.index("documents of 4096 tokens it takes") :])
    assert told[1:5] == [ours[0], theirs[0], ours[2], theirs[2]]


def sharded(folder: str, name: str = "sharded.json") -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((RESULTS / folder / name).read_text())["cases"]
    return found


def ends(case: dict[str, Any]) -> list[float]:
    return [round(case["losses"][0], 4), round(case["losses"][-1], 4)]


def test_full_fine_tuning_was_so_fast() -> None:
    found = sharded("sharded-h200-x2")
    refused, *told = rows("parameters |", PAGE)
    assert "need 247.6 GiB" in found["40/1/auto"]["refused"]
    assert "247.6" in refused[3]
    for cells, case in zip(told, ("40/2/auto", "12/1/auto", "12/2/never", "12/2/always"), strict=True):
        result = found[case]
        layers, ranks, _ = case.split("/")
        assert numbers(cells[0]) == [round(result["parameters"] / 1e9, 2)], layers
        assert cells[1] == ranks
        assert numbers(cells[3]) == [round(result["tokens_per_second"])]
        assert numbers(cells[4]) == [round(result["steps_per_second"], 3)]
        assert numbers(cells[5]) == [result["tokens_per_micro_batch"]]
        assert cells[6] == ("on" if result["gradient_checkpointing"] else "off")
        assert {numbers(cells[7])[0]} == {round(peak / 2**30, 1) for peak in result["peak_bytes"]}
        assert numbers(cells[8]) == ends(result)
    one, *two = (found[case]["tokens_per_second"] for case in ("12/1/auto", "12/2/always", "12/2/never"))
    after = numbers(PAGE[PAGE.index("Two GPUs make") :])
    assert after[:2] == [round(rate / one, 2) for rate in two]
    for cells, case in zip(rows("GPUs | `sharding` |"), ("12/1/auto", "12/2/always", "12/2/never"), strict=True):
        result = sharded("sharded-lora-h200-x2")[case]
        assert numbers(cells[2]) == [round(result["tokens_per_second"])]
        assert {numbers(cells[3])[0]} == {round(peak / 2**30, 1) for peak in result["peak_bytes"]}
        assert numbers(cells[4]) == ends(result)
    limited = sharded("sharded-h200-x2", "limited-80-gib.json")["12/2/always"]
    assert numbers(PAGE[PAGE.index("`limited-80-gib.json`") :])[2:4] == ends(limited)


def test_the_quickstart_took_so_long() -> None:
    lines = (RESULTS / "shipped-h200" / "quickstart-run.txt").read_text().splitlines()
    clock = [
        (datetime.strptime(line[:8], "%H:%M:%S"), line[9:]) for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)
    ]
    starts = [place for place, (_, text) in enumerate(clock) if text.startswith("loading weights")]
    told = numbers(PAGE[PAGE.index("all graded, took") :])
    assert told[0] == (clock[-1][0] - clock[0][0]).seconds
    assert told[1:4] == [(clock[place + 1][0] - clock[place][0]).seconds for place in starts]


@pytest.mark.parametrize(
    ("folder", "cells"), [named_folder("shipped-h200-x2", one) for one in rows("adapters join", PAGE)]
)
def test_adapters_that_joined_took_so_long(folder: str, cells: list[str]) -> None:
    (found,) = (line for line in measured(folder) if line["name"] == cells[1] and line["measured"] == "apart")
    kind = {"attention": "attention", "experts": "attention+experts"}[re.findall(r"of (\w+)", cells[0])[0]]
    assert (*numbers(cells[0]), kind) == (found["group"], found["apart_seconds"], found["adapters"])
    assert numbers(cells[2])[0] == round(found["seconds"], 1)
    assert numbers(cells[3])[0] == round(found["tokens_per_second"])
    assert numbers(cells[4]) == [round(seconds) for seconds in found["waits"]]


@pytest.mark.parametrize(("column", "case"), [(1, "4096"), (2, "packed-1.5K")])
def test_the_time_of_a_step_goes_where_the_page_says(
    column: int, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where.main(RAW.parents[1] / "train-h200" / f"profile-potstill-attention-experts-{case}.txt")
    told = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert [numbers(cells[column])[0] for cells in rows("| 4 × 4096, ms")] == told


@pytest.mark.parametrize("cells", rows("GPUs | documents"), ids=lambda cells: f"{cells[0]}-{cells[1]}")
def test_each_pair_of_gpus_was_so_fast(cells: list[str]) -> None:
    folder = RAW.parents[1] / f"train-{cells[0].lower()}-x2"
    cases = json.loads((folder / "data-parallel.json").read_text())["cases"]
    case = cases["packed" if "packed" in cells[1] else "4096"]
    rate, distance, ring = case["tokens_per_second"], case["gradient_distance"], case["all_reduce"]
    assert [numbers(cell)[0] for cell in cells[2:5]] == [
        round(rate["one"]),
        round(rate["all"]),
        round(case["ratio"], 2),
    ]
    seconds, step = median(ring["seconds"]), median(case["step_seconds"]["all"])
    assert numbers(cells[5]) == [round(ring["bytes"] / 1e9, 1), round(seconds * 1e3, 1), round(seconds / step * 100, 1)]
    assert numbers(cells[6]) == [round(distance["all"], 4), round(distance["one, half micro-batches"], 4)]


CHECKS: list[dict[str, Any]] = [json.loads(line) for line in (RAW.parent / "check-vllm.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("cells", rows("case | log-probabilities"), ids=lambda cells: cells[0])
def test_each_case_of_vllm_was_so_near(cells: list[str]) -> None:
    found = {line["check"]: line for line in CHECKS if line["case"] == cells[0]}
    errors = [found[f"log-probabilities of {name}"]["rms"] for name in ("base", "self_attn", "all")]
    assert numbers(cells[1]) == [float(f"{error:.2g}") for error in errors]
    greedy = found["greedy tokens up to a near-tie"]
    assert numbers(cells[2]) == [greedy["equal"], greedy["outputs"]]
    assert numbers(cells[3]) == [float(f"{max(greedy['ties_nats']):.2g}")]


def test_every_case_of_vllm_is_on_the_page() -> None:
    assert {cells[0] for cells in rows("case | log-probabilities")} == {line["case"] for line in CHECKS}
