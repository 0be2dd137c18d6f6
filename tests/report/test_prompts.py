"""The report's page shows the prompt that was sent for every output.

It also shows when the experiment started, how long it took, and its settings.
"""

import base64
import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.controller.experiments import START, experiment, run
from tests.results.made_manifest import ENGINE, evaluation, manifest
from workloads.api import store_keys
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenPart
from workloads.api.manifest import Manifest
from workloads.api.model import sha256_of
from workloads.api.records import Output, OutputsRecord
from workloads.api.tasks import FileSource
from workloads.api.units import Prompting, Template, UnitRef
from workloads.evaluate.prompts import make_prompt
from workloads.report.output_browser import OutputPages, reading
from workloads.report.page import duration, page
from workloads.storage.base import Store, open_store
from workloads.storage.content_digest import hash_file
from workloads.storage.markers import commit_marker
from workloads.text.tokenizer import TextTokenizer, load_tokenizer

BASE = Path(__file__).parents[2] / "examples/quickstart/base"
HOSTILE = "</script><img src=x onerror=alert(1)>"
PROBLEM = f"Which one is 2? {HOSTILE}"
WITH_CHOICES = f"{PROBLEM}\nA. 1\nB. 2"
PLAIN = Prompting(template=Template(name="plain"), instruction="Problem:\n{problem}\nAnswer:", prefill=" The")
CHAT = Prompting(template=Template())
SENT = {
    "base": f"Problem:\n{WITH_CHOICES}\nAnswer: The",
    "mine@100": f"<|im_start|>user\n{WITH_CHOICES}<|im_end|>\n<|im_start|>assistant\n",
}


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return load_tokenizer(BASE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


def frozen_in(store: Store, tmp_path: Path) -> FrozenExperiment:
    """Puts an experiment into the store and returns it. Its benchmark is one multiple-choice problem in a local file."""
    path = tmp_path / "choice.jsonl"
    path.write_text(json.dumps({"id": "all-p0", "prompt": PROBLEM, "choices": ["1", "2"], "answer": "B"}))
    benchmark = FrozenBenchmark(
        name="choice", source=FileSource(location=str(path), sha256=hash_file(path)), grader="choice", completion="any",
        parts=(FrozenPart(name="all", problems=("all-p0",)),), checkpoint_parts=("all",), base_parts=("all",),
        trained_prompting={"mine": CHAT}, base_prompting=PLAIN,
    )  # fmt: skip
    made = experiment((run("mine", (100,)),), name="made", uid8="0" * 8)
    made = made.model_copy(update={"benchmarks": (benchmark,), "profile": {"train": {"env": {"TOKEN": "secret"}}}})
    store.put(store_keys.experiment_key("made", "0" * 8), made.to_json())
    return made


def manifest_with_outputs(store: Store, tokenizer: TextTokenizer, tmp_path: Path, text: str = WITH_CHOICES) -> Manifest:
    """Commits one output of the base and one of mine@100, and returns their manifest.

    `text`: the problem from which the base's prompt is made.
    """
    store.put(store_keys.blob_key(tokenizer.sha256), tokenizer.path.read_bytes())
    made = []
    for model, prompting, problem in (("base", PLAIN, text), ("mine@100", CHAT, WITH_CHOICES)):
        one = evaluation(model, codes="R", benchmark="choice")  # R: one output, right and completed
        prompt = make_prompt(tokenizer, prompting, "all-p0", problem)
        output = Output(
            problem="all-p0", prompt_sha256=prompt.sha256, prompt_tokens=len(prompt.token_ids), token_ids=(1,),
            text="B", finish_reason="stop",
        )  # fmt: skip
        record = OutputsRecord(
            engine=ENGINE, outputs=1, generated_tokens=1, finish_reasons={}, prompts_sha256="0" * 64,
            tokenizer_sha256=tokenizer.sha256, seconds=1.0, versions={},
        )  # fmt: skip
        path = tmp_path / f"{model}.jsonl"
        path.write_bytes(output.to_json())
        assert one.generate is not None
        unit = UnitRef(kind="generate", digest=one.generate)
        commit_marker(store, unit, 1, "outputs", {"outputs.jsonl": path}, record, now=START + timedelta(minutes=90))
        made.append(one.model_copy(update={"grade": None}))
    return manifest(*made)


def unpacked(packed: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def prompts_of(read: OutputPages) -> dict[str, str | None]:
    """The prompt that the page shows beside the output, by model."""
    # p: the texts of the problem's prompts. s: the index of the prompt that was sent.
    texts = unpacked(read.problems[0].packed)["all-p0"]["p"]
    places = {chunk.model: unpacked(chunk.packed)[0]["s"] for chunk in read.chunks}
    return {model: None if place is None else texts[place] for model, place in places.items()}


def test_each_output_has_the_prompt_that_was_sent(store: Store, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    """The prompt has the template, the base's instruction and prefill, and the lettered choices."""
    frozen_in(store, tmp_path)
    read = reading(manifest_with_outputs(store, tokenizer, tmp_path), store)
    assert prompts_of(read) == SENT
    assert read.notes == ()


def test_a_prompt_that_cannot_be_rebuilt_is_not_shown(store: Store, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    """The hash of the token ids belongs to another text, so the sent prompt is unknown."""
    frozen_in(store, tmp_path)
    read = reading(manifest_with_outputs(store, tokenizer, tmp_path, text="something else"), store)
    assert prompts_of(read) == SENT | {"base": None}
    assert "1 of 2 prompts of choice are not shown" in read.notes[0]


def test_without_the_benchmark_the_prompts_are_missing_and_the_outputs_are_shown(
    store: Store, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    frozen_in(store, tmp_path)
    made = manifest_with_outputs(store, tokenizer, tmp_path)
    (tmp_path / "choice.jsonl").unlink()
    read = reading(made, store)
    assert "choice.jsonl does not exist" in read.notes[0]
    assert [unpacked(chunk.packed)[0]["s"] for chunk in read.chunks] == [None, None]


def test_without_the_tokenizer_it_says_which_is_missing(store: Store, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    frozen_in(store, tmp_path)
    made = manifest_with_outputs(store, tokenizer, tmp_path)
    store.delete(store_keys.blob_key(tokenizer.sha256))
    assert store_keys.blob_key(tokenizer.sha256) in reading(made, store).notes[0]


def test_hostile_problems_and_prompts_do_not_become_markup(
    store: Store, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    frozen_in(store, tmp_path)
    made = manifest_with_outputs(store, tokenizer, tmp_path)
    assert HOSTILE not in page(made, reading(made, store))


def test_the_page_shows_the_experiments_start_duration_and_settings(
    store: Store, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    """The admin's profile may hold environment variables with secrets, so the page does not show it."""
    frozen = frozen_in(store, tmp_path)
    made = manifest_with_outputs(store, tokenizer, tmp_path)
    html = page(made, reading(made, store))
    assert "16 Feb 2026, 09:00 UTC" in html
    assert "took 90 min" in html
    assert f"specSha256: {sha256_of(b'spec')}" in html
    assert "learningRate: 0.0002" in html
    assert frozen.benchmarks[0].source.location in html
    assert "secret" not in html


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (420, "7 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h"), (7_199, "2 h 0 min")],
)
def test_a_duration_is_in_units_that_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text
