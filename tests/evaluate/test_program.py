import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluate.models import edit_adapter, edit_config, with_adapter_by_hooks, write_adapter, write_dense
from tests.evaluate.test_canary import canaries_of
from tests.evaluate.world import NOW, PROBLEMS, World
from tests.tools.progress import Told
from workloads.api import store_keys
from workloads.api.records import ExitCode, Progress, TaskEnd
from workloads.api.tasks import GenerateTask, MemberPointer, ModelSource, TaskRef
from workloads.api.units import EngineIdentity, ModelContent, Prompting, Sampling, Template
from workloads.engines.base import Adapter
from workloads.engines.transformers.engine import TransformersEngine
from workloads.evaluate import program
from workloads.evaluate.program import evaluate
from workloads.models.adapters import WEIGHTS
from workloads.program import run_program
from workloads.storage.content_digest import directory_content, localise_model
from workloads.storage.markers import read_marker
from workloads.text.tokenizer import load_tokenizer


@pytest.fixture
def world(dense: Path, tmp_path: Path) -> World:
    return World(tmp_path, dense)


def test_outputs_of_base_and_adapters_are_committed_with_all_that_the_record_promises(
    world: World, dense: Path, adapters: list[Path]
) -> None:
    members = [world.member()]
    for samples, directory in enumerate(adapters[:2], 1):
        canaries = canaries_of(dense, with_adapter_by_hooks(dense, directory))
        members.append(world.member(world.checkpoint(directory, samples, canaries)))
    assert world.run(world.order(*members)) == ExitCode.OK
    tokenizer = load_tokenizer(dense)
    texts = set()
    for member in members:
        outputs, record = world.outputs(member.unit), world.record(member.unit)
        assert [output.problem for output in outputs] == list(PROBLEMS)
        assert record.outputs == len(outputs) == sum(record.finish_reasons.values()) == len(record.output_seconds)
        assert record.generated_tokens == sum(len(output.token_ids) for output in outputs)
        assert record.engine.flags["batch_rows"] == 64
        assert {"torch", "transformers"} <= set(record.versions)
        assert world.store.get(store_keys.blob_key(record.tokenizer_sha256)) == tokenizer.path.read_bytes()
        if member.adapter:
            assert record.canary_error is not None
            assert record.canary_error < 1e-3
        else:
            assert record.canary_error is None
        for output in outputs:
            assert 0 < len(output.token_ids) <= world.limit_tokens
            ended = output.token_ids[-1] in tokenizer.end_token_ids
            assert output.finish_reason == ("stop" if ended else "length")
            assert output.text == tokenizer.decode(output.token_ids[: -1 if ended else None])
        texts.add(tuple(output.text for output in outputs))
    assert len(texts) == 3
    progress = Progress.model_validate_json(world.store.get(store_keys.progress_key(members[0].unit, 1)))
    assert (progress.done, progress.total) == (18, 18)
    assert progress.members == {member.unit.digest: 6 for member in members}


def test_a_start_begins_before_the_base_is_downloaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def begin(asked: EngineIdentity) -> None:
        done.append(f"begun {asked.name}")

    def fetch(model: ModelSource) -> Path:
        done.append("fetched")
        return localise_model(model)

    monkeypatch.setattr(program, "begin_start", begin)
    monkeypatch.setattr(program, "localise_model", fetch)
    assert world.run(world.order(world.member())) == ExitCode.OK
    assert done == ["begun transformers", "fetched"]


def test_each_output_is_reported_when_it_is_done(world: World, adapters: list[Path]) -> None:
    engine = world.engine.model_copy(update={"flags": {"batch_rows": 2}})
    members = [world.member(engine=engine), world.member(world.checkpoint(adapters[0], 1), engine=engine)]
    task, told = world.order(*members), Told()
    assert run_program(GenerateTask, told.body(evaluate), [task.key], {"POTSTILL_STORE": world.url}) == ExitCode.OK
    for member in members:
        counts = told.done(member.unit.digest)
        assert counts == sorted(counts)
        assert counts[0] == 0
        assert counts[-1] == len(PROBLEMS)
        assert len(counts) >= 4


def test_the_same_group_again_gives_the_same_bytes_and_so_does_each_member_alone(
    world: World, adapters: list[Path], tmp_path: Path
) -> None:
    first = [world.member(), world.member(world.checkpoint(adapters[0], 1))]
    world.run(world.order(*first))
    for index in (0, 1):
        other = world.changed(folder=tmp_path / f"again{index}")
        other.folder.mkdir()
        adapter = other.checkpoint(adapters[0], 1)
        member = other.member(adapter if index else None)
        assert other.run(other.order(member)) == ExitCode.OK
        before, after = world.marker(first[index].unit), other.marker(member.unit)
        assert before is not None
        assert after is not None
        assert before.content == after.content


def test_the_prompt_is_the_training_prefix_and_the_prefill_opens_the_answer(world: World, dense: Path) -> None:
    prompting = Prompting(template=Template(system="Be brief."), instruction="Solve: {problem}", prefill="<think>")
    member = world.member(prompting=prompting)
    world.run(world.order(member))
    tokenizer = load_tokenizer(dense)
    text = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSolve: {PROBLEMS['p0']}<|im_end|>\n"
    expected = tokenizer.encode(text + "<|im_start|>assistant\n") + tokenizer.encode("<think>")
    assert world.outputs(member.unit)[0].prompt_tokens == len(expected)


def test_sampled_outputs_are_n_per_problem_and_differ(world: World) -> None:
    member = world.member(sampling=Sampling(temperature=1.0, n=3, seed=5))
    world.run(world.order(member))
    outputs = world.outputs(member.unit)
    assert [(o.problem, o.index) for o in outputs] == [(problem, i) for problem in PROBLEMS for i in range(3)]
    assert len({output.token_ids for output in outputs[:3]}) == 3


def unreadable(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:-100])


def wrong_shapes(directory: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        for key in tensors:
            tensors[key] = tensors[key].T

    edit_adapter(directory, change)


def not_a_number(directory: Path) -> None:
    edit_adapter(directory, lambda tensors: [tensor.fill_(torch.nan) for tensor in tensors.values()])


def wrong_scale(directory: Path) -> None:
    edit_config(directory, lora_alpha=9.0)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [unreadable, wrong_shapes, not_a_number, wrong_scale])
def test_a_poison_adapter_fails_its_member_only(
    world: World, dense: Path, adapters: list[Path], tmp_path: Path, spoil: Any
) -> None:
    poison = write_adapter(tmp_path / "poison", dense, seed=9)
    canaries = canaries_of(dense, with_adapter_by_hooks(dense, poison))
    spoil(poison)
    bad = world.member(world.checkpoint(poison, 1, canaries))
    good = [world.member(), world.member(world.checkpoint(adapters[0], 2))]
    assert world.run(world.order(bad, *good)) == ExitCode.OK
    failure = world.failure(bad)
    assert failure is not None
    assert (failure.exit_code, failure.reason, failure.member) == (ExitCode.BAD_DATA, "BadAdapter", bad.unit.digest)
    assert world.marker(bad.unit) is None
    assert all(world.marker(member.unit) for member in good)
    assert all(world.failure(member) is None for member in good)


def test_an_adapter_that_needs_more_memory_than_there_is_fails_alone(
    world: World, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging keeps a copy of the weights; there is memory only for the base."""
    monkeypatch.setattr("workloads.engines.transformers.definition.weight_bytes", lambda *_: 300 * 2**20)
    monkeypatch.setattr("workloads.engines.transformers.definition.available_host_bytes", lambda: 450 * 2**20)
    base, big = world.member(), world.member(world.checkpoint(adapters[0], 1))
    assert world.run(world.order(big, base)) == ExitCode.OK
    assert world.marker(base.unit)
    failure = world.failure(big)
    assert failure is not None
    assert failure.reason == "DoesNotFit"
    assert world.failure(base) is None


def test_no_more_adapters_lie_on_the_disk_than_the_next_one(
    world: World, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, lying = TransformersEngine.load, []

    def counting(engine: TransformersEngine, adapter: Adapter) -> None:
        lying.append(len(list(adapter.directory.parent.glob(f"*/{WEIGHTS}"))))
        load(engine, adapter)

    monkeypatch.setattr(TransformersEngine, "load", counting)
    members = [
        world.member(world.checkpoint(directory, samples), problems=problems)
        for samples, directory in enumerate(adapters, 1)
        for problems in (("p0", "p1"), ("p2",))
    ]
    assert world.run(world.order(*members)) == ExitCode.OK
    assert all(world.marker(member.unit) for member in members)
    assert len(lying) == len(adapters) >= 3
    assert max(lying) <= 2


def test_files_that_differ_from_their_marker_fail_their_member_only(world: World, adapters: list[Path]) -> None:
    bad, good = (world.member(world.checkpoint(adapters[i], i + 1)) for i in (0, 1))
    assert bad.adapter is not None
    marker = read_marker(world.store, bad.adapter.unit, bad.adapter.marker)
    assert marker is not None
    key = next(file.key for file in marker.files if file.name == WEIGHTS)
    world.store.put(key, world.store.get(key)[:-1] + b"\x07")
    assert world.run(world.order(bad, good)) == ExitCode.OK
    failure = world.failure(bad)
    assert failure is not None
    assert failure.reason == "CorruptFiles"
    assert world.marker(good.unit)


def test_when_every_member_fails_the_task_fails_and_says_why(world: World) -> None:
    member = world.changed(limit_tokens=250).member()
    assert world.run(world.order(member)) == ExitCode.BAD_CONFIGURATION
    failure = world.failure(member)
    assert failure is not None
    assert failure.reason == "BadPrompt"
    assert "context holds 256" in failure.message


def test_a_problem_that_the_benchmark_lacks_is_named(world: World) -> None:
    member = world.member(problems=("p0", "p9"))
    assert world.run(world.order(member)) == ExitCode.BAD_CONFIGURATION
    failure = world.failure(member)
    assert failure is not None
    assert "'p9'" in failure.message


def test_members_that_are_done_or_another_tasks_or_closed_are_left_alone(world: World, adapters: list[Path]) -> None:
    mine, done, taken, closed = (
        world.member(world.checkpoint(adapters[0], 1), limit_tokens=limit) for limit in (4, 5, 6, 7)
    )
    world.run(world.order(done))
    before = world.marker(done.unit)
    other = MemberPointer(
        unit=taken.unit, number=1, owner=world.order(mine).owner, created=NOW, lead=closed.unit, lead_number=3
    )
    world.store.put_new(other.key, other.to_json())
    end = TaskEnd(
        number=1,
        outcome="lost",
        reason="Lost",
        message="x",
        counts_as_failure=False,
        retry=True,
        ended=NOW + timedelta(1),
    )
    world.store.put_new(store_keys.end_key(closed.unit, 1), end.to_json())
    again = done.model_copy(update={"number": 2})
    lead = mine.model_copy(update={"number": 2})
    task = world.order(lead).model_copy(update={"members": (lead, again, taken, closed)})
    world.store.put(task.key, task.to_json())
    assert world.run(task) == ExitCode.OK
    assert world.marker(mine.unit)
    assert world.marker(done.unit) == before
    assert world.marker(taken.unit) is None
    assert world.marker(closed.unit) is None


def test_whole_weights_run_in_an_engine_of_their_own(world: World, tmp_path: Path) -> None:
    other = write_dense(tmp_path / "other", seed=3)
    content = directory_content(other)
    whole = world.member(model=ModelContent(base=content)).model_copy(
        update={"weights": ModelSource(location=str(other), content=content)}
    )
    base = world.member()
    assert world.run(world.order(base, whole)) == ExitCode.OK
    assert [o.token_ids for o in world.outputs(base.unit)] != [o.token_ids for o in world.outputs(whole.unit)]


def test_another_version_of_the_engine_is_refused(world: World) -> None:
    member = world.member(engine=world.engine.model_copy(update={"version": "1.2.3"}))
    assert world.run(world.order(member)) == ExitCode.BAD_CONFIGURATION
    failure = world.failure(member)
    assert failure is not None
    assert failure.reason == "WrongEngine"
    assert "1.2.3" in failure.message


@pytest.mark.slow
@pytest.mark.long
def test_it_runs_as_a_program_of_its_own(world: World) -> None:
    member = world.member()
    task = world.order(member)
    environment = os.environ | {"POTSTILL_STORE": world.url}
    command = [sys.executable, "-m", "workloads.evaluate", task.key]
    assert subprocess.run(command, env=environment, timeout=600).returncode == 0
    assert world.marker(member.unit)
    assert TaskRef(unit=task.unit, number=1).key == task.key
