"""Files that editors and other programs write, and values that YAML reads as something else: read, or refused."""

import json
from pathlib import Path

import pytest

from controller.experiment.errors import SpecError
from controller.experiment.load import load_experiment
from tests.experiment.test_validate import change, folder, problems, said
from workloads.benchmarks.load import load_file
from workloads.benchmarks.model import BenchmarkError
from workloads.evaluate.problems import read_problems

__all__ = ["folder"]


def refused(folder: Path, old: str, new: str) -> str:
    change(folder, old, new)
    with pytest.raises(SpecError) as error:
        load_experiment(folder / "e.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("samples: 20", "samples: yes", "line 13: spec.training.samples: must be a number, and YAML reads yes or no"),
        ("samples: 20", "samples: 024", "line 13: spec.training.samples: YAML reads '024' in base 8 or 60"),
        ("samples: 20", "samples: 1:30", "line 13: spec.training.samples: YAML reads '1:30' in base 8 or 60"),
        ("samples: 20", "samples: many", "spec.training.samples: must be a whole number (it is 'many')"),
        ("samples: 20", "samples: 2026-11-28", "must be a whole number (it is 2026-11-28)"),
        ("learningRate: 5.0e-3", "learningRate: .inf", "spec.training.learningRate: must be a finite number"),
        ("learningRate: 5.0e-3", "learningRate: .nan", "spec.training.learningRate: must be a finite number"),
        ("name: tiny", "name: 2026-11-28", "metadata.name: YAML reads a date (2026-11-28): put it in quotes"),
        ("name: a,", "name: no,", "spec.runs[0].name: YAML reads yes or no (false): put it in quotes"),
        ("budgets: [48]", "budgets: []", "spec.evaluation.budgets: is empty: at least one entry is needed"),
        ("budgets: [48]", "budgets: 48", "spec.evaluation.budgets: must be a list, each entry after a - or all in [ ]"),
        ("budgets: [48]", "budgets: [true]", "must be a number, and YAML reads yes or no"),
        ("    sums:\n", "    1:\n", "line 7: spec.data.1: the name: YAML reads a number (1): put it in quotes"),
        ("name: a,", "name: a, label: 'x\u0007',", "line 19: the file: is not YAML: the character #x0007 may not"),
    ],
)
def test_a_value_that_yaml_reads_otherwise_is_refused_by_what_it_is(
    folder: Path, old: str, new: str, message: str
) -> None:
    assert message in refused(folder, old, new)


def test_the_encoding_of_a_file_is_named(folder: Path) -> None:
    text = (folder / "e.yaml").read_text()
    for data, message in (
        (text.encode("utf-16"), "the file: is UTF-16 text: save it as UTF-8"),
        (text.replace("name: a,", "name: a, label: ü,").encode("latin-1"), "line 19: the file: is not UTF-8 text: byte 0xfc"),
        (f"{text}---\n{text}".encode(), "line 25: the file: holds 2 documents"),
    ):  # fmt: skip
        (folder / "e.yaml").write_bytes(data)
        with pytest.raises(SpecError) as error:
            load_experiment(folder / "e.yaml")
        assert message in str(error.value)


def test_marks_and_line_ends_of_other_systems_change_nothing(folder: Path) -> None:
    text = (folder / "e.yaml").read_text()
    (folder / "e.yaml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    for name in ("sft.jsonl", "bench.jsonl"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    assert len(said(folder).splitlines()) == 1
    bench = folder / "bench.jsonl"
    assert list(read_problems(bench, ())) == [problem.id for problem in load_file(bench, "own", "math").problems]


def test_data_of_another_encoding_or_delimiter_is_refused_by_what_it_is(folder: Path) -> None:
    rows = (folder / "sft.jsonl").read_text()
    (folder / "sft.jsonl").write_bytes(rows.encode("utf-16"))
    assert "spec.data.sums.uri: sft.jsonl: this is UTF-16 text: save it as UTF-8" in problems(folder)
    change(folder, "sft.jsonl", "sft.csv")
    (folder / "sft.csv").write_text("question;solution\n1;2\n")
    assert "sft.csv: line 1: columns are separated by semicolons: use commas" in problems(folder)
    (folder / "bench.jsonl").write_bytes((folder / "bench.jsonl").read_text().encode("utf-16"))
    with pytest.raises(BenchmarkError, match="this is UTF-16 text: save it as UTF-8"):
        load_file(folder / "bench.jsonl", "own", "math")


def test_a_directory_without_data_is_one_problem(folder: Path) -> None:
    (folder / "empty").mkdir()
    change(folder, "sft.jsonl", "empty")
    assert problems(folder).splitlines()[0].endswith("1 problem")


def test_the_error_for_a_file_as_base_or_a_shell_path_says_what_is_wrong(folder: Path) -> None:
    text = (folder / "e.yaml").read_text()
    base = next(line for line in text.splitlines() if "model:" in line)
    (folder / "e.yaml").write_text(text.replace(base, "  base: {model: sft.jsonl}"))
    assert "sft.jsonl is a file; a base is a directory with config.json" in problems(folder)
    (folder / "e.yaml").write_text(text.replace(base, "  base: {model: ~/models/small}"))
    assert "~ and $ are not expanded: write the whole path" in problems(folder)
    (folder / "e.yaml").write_text(text.replace("sft.jsonl", "$DATA/sft.jsonl"))
    assert "$DATA/sft.jsonl is not a file; ~ and $ are not expanded" in problems(folder)


def test_anchors_and_merge_keys_are_read(folder: Path) -> None:
    change(
        folder,
        "    - {name: a, data: sums, thinking: false}",
        "    - &first {name: a, data: sums, thinking: false}\n    - <<: *first\n      name: b\n      seed: 3",
    )
    assert [run.seed for run in load_experiment(folder / "e.yaml").spec.runs] == [None, 3]
    assert json.loads((folder / "sft.jsonl").read_text().splitlines()[0])
