"""The quickstart's committed files equal the output of its scripts, and its benchmarks are new to the base and the
runs.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from controller.experiment.load import load_experiment
from workloads.api.units import Template
from workloads.benchmarks.load import load
from workloads.text.templates import render_prompt
from workloads.text.tokenizer import load_tokenizer

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKSTART = EXAMPLES / "quickstart"
DATA = ("math.jsonl", "code.jsonl", "bench-math.jsonl", "bench-code.jsonl")


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(QUICKSTART)


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (QUICKSTART / name).read_text().splitlines()]


def test_the_data_are_what_the_script_writes(tmp_path: Path) -> None:
    script = [sys.executable, str(QUICKSTART / "make_data.py"), "--out", str(tmp_path)]
    subprocess.run(script, check=True)
    for name in DATA:
        assert (tmp_path / name).read_bytes() == (QUICKSTART / name).read_bytes(), f"{name}: run make_data.py again"


def test_no_problem_of_a_benchmark_is_asked_in_the_training_data_or_the_corpus_of_the_base() -> None:
    import corpus
    import sums

    expressions = [row["prompt"].rstrip("?.").split(" ", 1)[1] for row in rows("bench-math.jsonl")]
    words = [row["prompt"].split(": ", 1)[1].removesuffix(". Return the list.") for row in rows("bench-code.jsonl")]
    expressions = [text.removeprefix("is ").removeprefix("the value of ") for text in expressions]
    assert all(corpus.is_held_out(text) for text in expressions + words)
    prompts = {row["prompt"] for name in ("math.jsonl", "code.jsonl") for row in rows(name)}
    assert prompts.isdisjoint(row["prompt"] for name in ("bench-math.jsonl", "bench-code.jsonl") for row in rows(name))
    asked = [phrasing.format(text) for text in expressions for phrasing in sums.PHRASINGS]
    pages = "".join(itertools.islice(corpus.documents(seed=1), 2000))
    assert not [prompt for prompt in asked if prompt in pages]


def test_the_teacher_of_sums_is_right() -> None:
    for row in rows("math.jsonl"):
        working, answer = row["response"].split("</think>")
        expression = working.split("\n")[1]
        assert answer.strip() == f"The answer is \\boxed{{{eval(expression)}}}."
        assert {eval(line) for line in working.split("\n")[1:-1] if line != "Let me check."} == {eval(expression)}


def test_the_solutions_of_the_lists_give_what_the_tests_expect() -> None:
    for row in rows("bench-code.jsonl"):
        names: dict[str, object] = {}
        exec(row["solution"], names)
        function = names[row["entry_point"]]
        assert callable(function)
        for case in json.loads(json.dumps(row["tests"])):
            assert function(*case["args"]) == case["expected"]


def test_the_benchmarks_load() -> None:
    assert len(load(QUICKSTART / "bench-math.jsonl", "math").problems) == 40
    assert len(load(QUICKSTART / "bench-code.jsonl", "code").problems) == 24


def test_the_experiment_trains_two_runs_that_differ_in_overlong_alone() -> None:
    truncate, drop = load_experiment(EXAMPLES / "quickstart.yaml").spec.runs
    assert (truncate.overlong, drop.overlong) == ("truncate", "drop")
    same = {"name": "", "label": "", "overlong": None}
    assert truncate.model_copy(update=same) == drop.model_copy(update=same)


def test_the_third_run_in_the_comments_is_a_valid_experiment(tmp_path: Path) -> None:
    text = (EXAMPLES / "quickstart.yaml").read_text()
    text = text.replace("# code: {", "code: {").replace("# - {name: code_truncate", "- {name: code_truncate")
    path = tmp_path / "quickstart.yaml"
    path.write_text(text)
    assert [run.name for run in load_experiment(path).spec.runs][2:] == ["code_truncate"]


@pytest.mark.slow
def test_the_tokenizer_and_the_config_are_those_of_the_script(tmp_path: Path) -> None:
    import make_base

    tokenizer = make_base.make_tokenizer(make_base.SEED)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text()) == json.loads(
        (QUICKSTART / "base" / "tokenizer.json").read_text()
    )
    made = make_base.make_config(tokenizer).to_dict()
    shipped = json.loads((QUICKSTART / "base" / "config.json").read_text())
    decided_later = {"dtype", "architectures", "transformers_version", "_name_or_path"}
    assert {k: v for k, v in shipped.items() if k not in decided_later} == {
        k: made[k] for k in shipped if k not in decided_later
    }


def test_special_tokens_are_one_token_each_and_the_base_declares_both_ends() -> None:
    tokenizer = load_tokenizer(QUICKSTART / "base")
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"):
        assert len(tokenizer.encode(token)) == 1
    assert {*tokenizer.end_token_ids} == {tokenizer.token_id("<|endoftext|>"), tokenizer.token_id("<|im_end|>")}


def test_any_text_survives_the_tokenizer() -> None:
    tokenizer = load_tokenizer(QUICKSTART / "base")
    text = render_prompt(Template(name="chatml"), "Σ ≤ 3\tnaïve — \\frac{1}{2}\r\n  x  12345")
    assert tokenizer.decode(tokenizer.encode(text)) == text
