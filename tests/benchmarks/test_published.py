"""gsm8k and humaneval-plus: data in the published form become a benchmark; without them a message says what to do."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.experiment.errors import SpecError
from controller.experiment.load import parse_experiment
from controller.experiment.validate import check as check_spec
from tests.experiment.wrong_specs import MINIMAL
from workloads.benchmarks.gsm8k import definition as gsm8k
from workloads.benchmarks.humaneval_plus import definition as humaneval
from workloads.benchmarks.load import load, load_file
from workloads.benchmarks.model import BenchmarkError
from workloads.benchmarks.published import PublishedData
from workloads.benchmarks.registry import BENCHMARKS, name_of_content
from workloads.grade.bench import grade_golds
from workloads.graders.code.oracles import passes
from workloads.storage.content_digest import hash_file

# Rows in GSM8K's form, written for this test.
SUMS = [
    {
        "question": "Ann has 4 pens and buys 3 more. How many pens has she?",
        "answer": "She has 4 + 3 = <<4+3=7>>7 pens.\n#### 7",
    },
    {
        "question": "A town of 2,000 people grows by 125. How many people live there?",
        "answer": "2000 + 125 = <<2000+125=2125>>2,125.\n#### 2,125",
    },
]
# Rows in HumanEval+'s form, written for this test.
FUNCTIONS = [
    {
        "task_id": "HumanEval/900",
        "prompt": 'def twice(x: int) -> int:\n    """Twice x."""\n',
        "entry_point": "twice",
        "canonical_solution": "    return 2 * x\n",
        "contract": "",
        "base_input": [[1], [2]],
        "plus_input": [[-3], [10**12]],
        "atol": 0,
    },
    {
        "task_id": "HumanEval/901",
        "prompt": 'def find_zero(xs: list):\n    """A root of the polynomial xs."""\n',
        "entry_point": "find_zero",
        "canonical_solution": "    return -xs[0] / xs[1]\n",
        "contract": "",
        "base_input": [[[1, 2]]],
        "plus_input": [[[-6, 3]]],
        "atol": 1e-4,
    },
]


def lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def unreachable(data: PublishedData) -> PublishedData:
    """The same data at an address that does not answer."""
    return replace(data, url="https://127.0.0.1:9/" + data.url.rpartition("/")[2])


def accepted(data: PublishedData) -> PublishedData:
    """Accepts rows of this test instead of the published ones, although their hash differs."""
    return replace(unreachable(data), check=lambda _: None)


def put(data: PublishedData, content: bytes) -> Path:
    data.published_path.parent.mkdir(parents=True, exist_ok=True)
    data.published_path.write_bytes(content)
    return data.published_path


def test_gsm8k_is_made_of_its_published_rows_and_its_golds_grade_right() -> None:
    data = accepted(gsm8k.DATA)
    put(data, lines(SUMS))
    benchmark = load_file(data.fetch(), "gsm8k", "math")
    assert [(p.id, p.answer) for p in benchmark.problems] == [("gsm8k/0", "7"), ("gsm8k/1", "2125")]
    assert benchmark.problems[0].reference_solution == "She has 4 + 3 = 7 pens."
    assert benchmark.completion == "boxed"


@pytest.mark.slow
def test_humaneval_plus_is_made_of_its_published_rows_and_its_solutions_grade_right() -> None:
    data = accepted(humaneval.DATA)
    put(data, gzip.compress(lines(FUNCTIONS), mtime=0))
    benchmark = load_file(data.fetch(), "humaneval-plus", "code", is_registered=True)
    report = grade_golds(benchmark, 1)
    assert (report.tested, report.wrong, report.untested) == (2, (), ())
    root = benchmark.problem("HumanEval/901").tests
    assert root is not None
    assert [suite.oracle for suite in root.suites] == ["polynomial root"] * 2


def test_any_root_of_a_polynomial_is_right_and_nothing_else() -> None:
    def root(value: object) -> bool:
        return passes(value, 2.0, "polynomial root", lambda: [[-4, 0, 1]], 1e-4)

    assert root(2.0)
    assert root(-2.0)
    assert not root(2.1)
    assert not root(float("nan"))
    with pytest.raises(TypeError):
        root("2")


@pytest.mark.parametrize("definition", [gsm8k, humaneval])
def test_without_a_network_the_message_says_what_to_download_and_where_to_put_it(definition: Any, cache: Path) -> None:
    data = unreachable(definition.DATA)
    with pytest.raises(BenchmarkError) as refused:
        data.fetch()
    assert str(refused.value).startswith(
        f"download {data.url} and put it at {data.published_path}: {data.benchmark} is not"
    )
    assert str(cache) in str(refused.value)
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("data", "content", "reason"),
    [
        (gsm8k.DATA, lines(SUMS), "its sha256 is "),
        (humaneval.DATA, gzip.compress(lines(FUNCTIONS), mtime=0), "its md5 is "),
        (humaneval.DATA, lines(FUNCTIONS), "it is not gzip"),
        (gsm8k.DATA, b"", "its sha256 is "),
        (humaneval.DATA, b"", "its md5 is "),
    ],
)
def test_another_file_than_the_published_one_is_refused(data: PublishedData, content: bytes, reason: str) -> None:
    path = put(data, content)
    with pytest.raises(BenchmarkError, match=f"{path}: {reason}.*: delete it, or put the file of {data.url} there"):
        data.fetch()


@pytest.mark.parametrize("taken", ["", "benchmarks", "benchmarks/gsm8k"])
def test_a_cache_that_cannot_be_written_to_is_named(cache: Path, taken: str) -> None:
    path = cache / taken
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file in the place of the folder")
    with pytest.raises(BenchmarkError, match=f"^{cache}/benchmarks/gsm8k cannot be used .*POTSTILL_CACHE"):
        unreachable(gsm8k.DATA).fetch()


@pytest.mark.parametrize(
    ("data", "content", "reason"),
    [
        (gsm8k.DATA, lines([{"question": "Why?", "answer": "Because."}]), "row 0: its answer does not end"),
        (gsm8k.DATA, lines([{"question": "Why?"}]), "'answer'"),
        (
            humaneval.DATA,
            gzip.compress(lines([{"task_id": "HumanEval/0"}]), mtime=0),
            "row 0 has no prompt, entry_point",
        ),
    ],
)
def test_data_in_another_form_are_refused(data: PublishedData, content: bytes, reason: str) -> None:
    put(accepted(data), content)
    with pytest.raises(BenchmarkError, match=reason):
        accepted(data).fetch()


def test_a_converted_benchmark_is_used_again_without_the_published_file() -> None:
    data = accepted(gsm8k.DATA)
    published = put(data, lines(SUMS))
    first = data.fetch()
    digest = hash_file(first)
    published.unlink()
    assert gsm8k.DATA.fetch() == gsm8k.DATA.locate() == first
    benchmark = load("gsm8k")
    assert (benchmark.sha256, benchmark.grader, len(benchmark.problems)) == (digest, "math", 2)
    assert name_of_content(digest) == "gsm8k"


def test_a_users_own_file_may_still_have_the_name_of_a_benchmark_that_is_fetched() -> None:
    own = MINIMAL.replace("{name: math-500}", "{name: gsm8k, uri: own.jsonl, grader: math}")
    assert check_spec(parse_experiment(own, "experiment.yaml").spec) == []
    taken = MINIMAL.replace("{name: math-500}", "{name: math-500, uri: own.jsonl, grader: math}")
    with pytest.raises(SpecError, match="math-500 is a built-in benchmark's name"):
        parse_experiment(taken, "experiment.yaml")


def test_every_benchmark_states_its_licence_and_source() -> None:
    for definition in BENCHMARKS.builtin.values():
        assert definition.licence in ("MIT", "Apache-2.0")
        assert definition.source.startswith("https://")
