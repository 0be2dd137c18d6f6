import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.api.units import Prompting, Template
from workloads.evaluate.problems import BadBenchmark, read_problems
from workloads.evaluate.prompts import BadPrompt, check_context, make_prompt, prompts_sha256
from workloads.text.samples import encode_sample
from workloads.text.tokenizer import TextTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(dense: Path) -> TextTokenizer:
    return load_tokenizer(dense)


@given(problem=st.text(max_size=60), response=st.text(max_size=60), system=st.none() | st.text(max_size=20))
def test_a_trained_model_is_asked_with_its_training_prefix_token_by_token(
    tokenizer: TextTokenizer, problem: str, response: str, system: str | None
) -> None:
    template = Template(system=system)
    sample = encode_sample(tokenizer, template, problem, response, end_token_id=256)
    assert make_prompt(tokenizer, Prompting(template=template), "p", problem).token_ids == sample.prompt


def test_the_prefill_is_the_beginning_of_the_response(tokenizer: TextTokenizer) -> None:
    template = Template()
    sample = encode_sample(tokenizer, template, "2+2?", "<think>\nIt is 4.", end_token_id=256)
    prompt = make_prompt(tokenizer, Prompting(template=template, prefill="<think>\n"), "p", "2+2?")
    assert (sample.prompt + sample.response)[: len(prompt.token_ids)] == prompt.token_ids


def test_an_instruction_is_put_around_the_problem_whatever_braces_either_has(tokenizer: TextTokenizer) -> None:
    prompting = Prompting(template=Template(name="plain"), instruction="Q: {problem}\nput it in \\boxed{}.\nA:")
    prompt = make_prompt(tokenizer, prompting, "p", "what is {x} \\frac{1}{2}?")
    assert tokenizer.decode(prompt.token_ids) == "Q: what is {x} \\frac{1}{2}?\nput it in \\boxed{}.\nA:"
    with pytest.raises(BadPrompt, match="has no {problem}"):
        make_prompt(tokenizer, Prompting(template=Template(), instruction="Answer."), "p", "x")


def test_a_prompt_and_its_limit_must_fit_the_context(tokenizer: TextTokenizer) -> None:
    prompting = Prompting(template=Template(name="plain"))
    prompts = [make_prompt(tokenizer, prompting, name, "x" * size) for name, size in [("a", 10), ("b", 30)]]
    check_context(prompts, 70, 100)
    with pytest.raises(BadPrompt, match=r"problem b: its prompt has 30 tokens .* 71, together 101"):
        check_context(prompts, 71, 100)


def test_the_hash_of_all_prompts_depends_on_their_texts_and_their_problems(tokenizer: TextTokenizer) -> None:
    prompting = Prompting(template=Template(name="plain"))
    made = {(name, text): make_prompt(tokenizer, prompting, name, text) for name in "ab" for text in "xy"}
    hashes = {prompts_sha256([prompt]) for prompt in made.values()}
    assert len(hashes) == 4
    assert made["a", "x"].sha256 == made["b", "x"].sha256


def test_problems_are_read_in_the_order_asked_plain_or_gzipped_with_their_choices(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "A?"}, {"id": "b", "prompt": "B?", "choices": ["yes", "no"], "answer": "A"}]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    (tmp_path / "x.jsonl").write_text(text)
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("x.jsonl", "x.jsonl.gz"):
        found = read_problems(tmp_path / name, ["b", "a"])
        assert list(found.items()) == [("b", "B?\nA. yes\nB. no"), ("a", "A?")]
    with pytest.raises(BadBenchmark, match="no problem 'c'"):
        read_problems(tmp_path / "x.jsonl", ["a", "c"])
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "prompt": "A?"}\n{"id": "b"}\n')
    with pytest.raises(BadBenchmark, match=r"bad\.jsonl:2"):
        read_problems(tmp_path / "bad.jsonl", ["a"])


def test_a_benchmark_asked_as_a_whole_is_read_whole(tmp_path: Path) -> None:
    """For a benchmark in a bucket the controller does not know the ids, so the task names none."""
    (tmp_path / "x.jsonl").write_text('{"id": "b", "prompt": "B?"}\n{"id": "a", "prompt": "A?"}\n')
    assert read_problems(tmp_path / "x.jsonl", ()) == {"b": "B?", "a": "A?"}
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadBenchmark, match="holds no problems"):
        read_problems(tmp_path / "empty.jsonl", ())
