"""`potstill list`, and versions of an experiment by name: after an edit of the file earlier results can still be
read.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.accept import accept
from controller.cli import app
from controller.cli.versions import age, differences, earlier_versions_line, is_version, versions_in
from tests.controller.driver import small
from tests.tools.warm import WarmStart
from workloads.api.experiment import FrozenExperiment
from workloads.api.units import Columns, Template, TemplateVariable
from workloads.storage.base import Store, open_store

BASE = Path(__file__).parents[2] / "examples" / "quickstart" / "base"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def potstill(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "400"})


def changed(frozen: FrozenExperiment, uid8: str, days: int, **inputs: object) -> FrozenExperiment:
    """The same experiment with other inputs of its run, accepted this many days before NOW."""
    (run,) = frozen.runs
    run = run.model_copy(update={"inputs": run.inputs.model_copy(update=inputs)})
    return frozen.model_copy(update={"uid8": uid8, "accepted": NOW - timedelta(days=days), "runs": (run,)})


FIRST = changed(small(), "aaaa0000", 3)
SECOND = changed(small(), "aabb0000", 2, learning_rate=1e-3)
THIRD = changed(small(), "cccc0000", 1, learning_rate=1e-3, seed=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store((tmp_path / "store").as_uri())
    for frozen in (FIRST, SECOND, THIRD):
        accept(frozen, store)
    return store


def test_versions_come_newest_first(store: Store) -> None:
    assert [version.uid8 for version in versions_in(store)] == ["cccc0000", "aabb0000", "aaaa0000"]
    assert [version.phase for version in versions_in(store)] == ["accepted"] * 3


def test_differences_are_named_by_their_field(store: Store) -> None:
    assert differences(FIRST, SECOND) == ("learningRate",)
    assert differences(FIRST, THIRD) == ("learningRate", "seed")
    assert differences(FIRST, FIRST.model_copy(update={"budgets": (7,)})) == ("budgets",)


def test_a_field_that_epochs_sets_is_not_named() -> None:
    by_epochs = changed(small(), "dddd0000", 0, samples=7, on_short="repeat")
    by_epochs = by_epochs.model_copy(update={"runs": (by_epochs.runs[0].model_copy(update={"epochs": 2.0}),)})
    assert differences(FIRST, by_epochs) == ("samples", "epochs")


def test_no_field_hides_another() -> None:
    name = FIRST.runs[0].data
    both = changed(small(), "dddd0000", 0, samples=7, on_short="repeat")
    assert set(differences(FIRST, both)) == {"samples", f"data.{name}.onShort"}
    columns, template = Columns(messages="turns"), Template(variables=(TemplateVariable(name="a", value="1"),))
    more = changed(small(), "eeee0000", 0, learning_rate=1e-3, columns=columns, template=template)
    found = differences(FIRST, more)
    assert {"learningRate", f"data.{name}.columns.messages", f"data.{name}.templateVariables"} <= set(found)


def test_fields_outside_of_every_unit_are_named_too() -> None:
    (run,), (benchmark, *_) = FIRST.runs, FIRST.benchmarks
    run = SECOND.runs[0].model_copy(update={"budget_tokens": run.budget_tokens + 1, "label": "Mine"})
    other = benchmark.model_copy(update={"name": "another", "confirm": ()})
    asked = benchmark.model_copy(update={"confirm": (f"{run.name}@last",)})
    found = differences(FIRST, FIRST.model_copy(update={"runs": (run,), "benchmarks": (asked, other)}))
    assert {"learningRate", "budgetTokens", "label", "benchmark another"} <= set(found)
    assert f"benchmarks[{benchmark.name}].confirm" in found


def test_thinking_is_named_also_where_no_checkpoint_is_in_both() -> None:
    (run,) = FIRST.runs
    other = run.model_copy(update={"thinking": not run.thinking, "checkpoints": (run.checkpoints[-1] + 1,)})
    assert "thinking" in differences(FIRST, FIRST.model_copy(update={"runs": (other,)}))


def test_the_message_for_an_edited_file_names_its_earlier_results(store: Store) -> None:
    edited = changed(small(), "dddd0000", 0, learning_rate=5e-3)
    line = earlier_versions_line(store, edited, NOW)
    assert line is not None
    assert line.startswith(
        f"3 other versions of {edited.name} in the store: {edited.name}@cccc0000 (1 d old, accepted), "
    )
    assert f"{edited.name}@aaaa0000 (3 d old, accepted), differs in learningRate" in line
    assert earlier_versions_line(store, edited.model_copy(update={"name": "other"}), NOW) is None


def test_the_list_shows_each_version_and_what_differs(store: Store) -> None:
    shown = potstill("list", store.url)
    assert shown.exit_code == 0
    assert f"{FIRST.name}@aaaa0000" in shown.output
    assert "differs in learningRate, seed" in shown.output
    told = json.loads(potstill("list", store.url, "--json").output)["experiments"]
    assert [(one["version"], one["differs_from_newest_in"]) for one in told] == [
        ("cccc0000", None), ("aabb0000", ["seed"]), ("aaaa0000", ["learningRate", "seed"]),
    ]  # fmt: skip


def test_a_version_that_cannot_be_read_is_listed_with_the_reason(store: Store) -> None:
    store.put(f"experiments/{FIRST.name}/eeee0000/experiment.json", b"{}")
    shown = potstill("list", store.url)
    assert shown.exit_code == 0
    assert f"{FIRST.name}@eeee0000  unreadable" in shown.output
    assert f"{FIRST.name}@aaaa0000" in shown.output


COMMANDS = [["report"], ["show"], ["gate"], ["fetch", "one@last", "adapter"]]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_version_that_is_not_there_or_not_one_names_those_that_are(store: Store, words: list[str]) -> None:
    command, *others = words
    for wrong in (f"{FIRST.name}@12", f"{FIRST.name}@no-version", f"{FIRST.name}@", "other@aaaa0000", "Other@1"):
        missing = potstill(command, wrong, *others, "--store", store.url)
        assert missing.exit_code == 4, missing.output
        assert f"{FIRST.name}@cccc0000, {FIRST.name}@aabb0000" in missing.output
        assert "cluster" not in missing.output
    two = potstill(command, f"{FIRST.name}@aa", *others, "--store", store.url)
    assert two.exit_code == 4
    assert f"has 2 {FIRST.name}@aa; there are: {FIRST.name}@aabb0000, {FIRST.name}@aaaa0000" in two.output


def test_names_with_a_version_are_not_files() -> None:
    assert is_version("mine@116e56d9")
    assert is_version("mine.v2@1")
    assert is_version("mine@latest")
    assert not is_version("mine")
    assert not is_version("mine@x.yaml")
    assert not is_version("mine@117.yaml")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0 s"), (61, "1 min"), (7200, "2 h"), (90_000, "1 d")])
def test_an_age_is_shown_in_its_largest_unit(seconds: int, shown: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == shown


def write(path: Path, learning_rate: float) -> Path:
    """A real experiment that takes seconds, on the quickstart's base."""
    rows = [{"prompt": f"{n} + 1", "response": str(n + 1)} for n in range(9)]
    (path.parent / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path.parent / "bench.jsonl").write_text(json.dumps({"id": "a", "prompt": "1 + 1", "answer": "2"}) + "\n")
    training = {"batchSize": 2, "checkpointEverySamples": 4, "learningRate": learning_rate}
    spec = {
        "base": {"model": str(BASE)},
        "data": {"sums": {"uri": "data.jsonl"}},
        "training": training,
        "runs": [{"name": "one", "data": "sums", "samples": 4, "sequenceTokens": 64, "overlong": "drop"}],
        "evaluation": {
            "benchmarks": [{"name": "mine", "uri": "bench.jsonl", "grader": "exact", "base": "none"}],
            "budgets": [32],
        },
    }
    whole = {"apiVersion": "potstill.dev/v1alpha1", "kind": "Experiment", "metadata": {"name": "mine"}, "spec": spec}
    path.write_text(yaml.safe_dump(whole))
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.long
def test_after_an_edit_the_earlier_results_are_named_shown_and_reported(tmp_path: Path, warm: WarmStart) -> None:
    file, url = write(tmp_path / "experiment.yaml", 1e-3), (tmp_path / "store").as_uri()
    ran_first = warm.potstill("run", str(file), "--store", url, folder=tmp_path)
    assert ran_first.returncode == 0, ran_first.stderr
    first = ran_first.stdout
    assert first.startswith("engine: ")
    assert "other version" not in first

    (ran,) = json.loads(potstill("list", url, "--json").output)["experiments"]
    assert (ran["phase"], ran["checkpoints"]) == ("succeeded", {"committed": 1, "all": 1})
    assert ran["evaluations"] == {"graded": 1, "failed": 0, "asked": 1}

    write(file, 5e-3)
    absent = potstill("show", str(file), "--store", url)
    assert absent.exit_code == 4
    assert f"1 other version of mine in the store: mine@{ran['version']}" in absent.output
    ran_again = warm.potstill("run", str(file), "--store", url, folder=tmp_path)
    assert ran_again.returncode == 0, ran_again.stderr
    again = ran_again.stdout
    assert f"mine@{ran['version']}" in again
    assert "differs in learningRate" in again

    named = f"mine@{ran['version'][:6]}"
    assert f"mine {ran['version']} in {url}" in potstill("show", named, "--store", url).output
    assert potstill("report", named, "--store", url, "--out", str(tmp_path / "report")).exit_code == 0
    assert (tmp_path / "report" / "index.html").is_file()
    fetched = potstill("fetch", named, "one@last", str(tmp_path / "adapter"), "--store", url)
    assert fetched.exit_code == 0, fetched.output
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    ungated = potstill("gate", named, "--store", url)
    assert (ungated.exit_code, "no spec.gate" in ungated.output) == (2, True)
