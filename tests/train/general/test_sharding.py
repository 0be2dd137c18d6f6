"""Weights that are sharded over two ranks train like unsharded ones, over gloo, and resume with any number of ranks."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from tests.models.tiny import write_tiny_base
from tests.train.test_launch import two
from tests.train.world import failure, files, inputs, open_directory, order, sums, train_here, write_rows
from workloads.api import store_keys
from workloads.api.records import ExitCode
from workloads.api.tasks import TrainTask
from workloads.api.units import GENERAL_NUMERICS, Lora, TrainInputs
from workloads.models import FAMILIES
from workloads.models.memory import is_sharded, parameters_of
from workloads.storage.base import Store
from workloads.storage.markers import list_markers
from workloads.train.general.base import load_base
from workloads.train.general.sharding import ShardedParameters, discard_failed_pass, shard, whole
from workloads.train.metrics import Metric, from_lines
from workloads.train.ranks import Ranks

pytestmark = pytest.mark.long

LAST = "checkpoint-000000024"
GIB = 2**30


@pytest.mark.parametrize(
    ("stated", "ranks", "needed", "usable", "expected"),
    [
        ("auto", 8, 90 * GIB, 100 * GIB, True),
        ("auto", 8, 70 * GIB, 100 * GIB, False),
        ("auto", 1, 90 * GIB, 100 * GIB, False),
        ("auto", 8, 90 * GIB, None, False),
        ("always", 2, 1, None, True),
        ("never", 8, 90 * GIB, 100 * GIB, False),
    ],
)
def test_auto_shards_where_weights_leave_too_little_of_a_device(
    stated: Any, ranks: int, needed: int, usable: int | None, expected: bool
) -> None:
    assert is_sharded(stated, ranks, needed, usable) == expected


@pytest.fixture
def only_rank(tmp_path: Path) -> Iterator[Ranks]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", init_method=(tmp_path / "group").as_uri(), rank=0, world_size=1)
    yield Ranks(0, 1, torch.device("cpu"))
    distributed.destroy_process_group()


def test_a_cleared_gradient_keeps_no_memory_until_the_next_one_is_made(only_rank: Ranks) -> None:
    """Two gradients of all weights at once made the second step of a large base run out of memory."""
    model = torch.nn.Linear(4, 3)
    shard(model, only_rank)
    parameters = ShardedParameters(dict(model.named_parameters()), only_rank)
    optimizer = parameters.adamw(weight_decay=0.0)
    torch.autograd.backward(model(torch.ones(2, 4)).sum())
    parameters.reduce(only_rank)
    assert all(value.grad is not None for value in optimizer.param_groups[0]["params"])
    parameters.clear()
    assert [value.grad for value in optimizer.param_groups[0]["params"]] == [None, None]
    assert [parameter.grad for parameter in model.parameters()] == [None, None]


@pytest.mark.parametrize("module", ["model.layers.0", "model.layers.1.self_attn.v_proj"])
def test_a_step_has_all_gradients_after_one_that_ran_out_of_memory(module: str, base: Path, only_rank: Ranks) -> None:
    def run_out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory is left")

    ids = torch.arange(12).reshape(1, 12)
    model, alone = (load_base(base, "float32", torch.device("cpu"))[0].requires_grad_() for _ in range(2))
    shard(model, only_rank)
    parameters = dict(model.named_parameters())
    failing = model.get_submodule(module)
    for register in (failing.register_forward_hook, failing.register_full_backward_hook):
        handle = register(run_out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            torch.autograd.backward(model(input_ids=ids).logits.logsumexp(-1).sum())
        handle.remove()
        discard_failed_pass(model)
    torch.autograd.backward(model(input_ids=ids).logits.logsumexp(-1).sum())
    torch.autograd.backward(alone(input_ids=ids).logits.logsumexp(-1).sum())
    for name, parameter in alone.named_parameters():
        gradient = parameters[name].grad
        assert gradient is not None, name
        torch.testing.assert_close(whole(gradient), parameter.grad)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), FAMILIES["LlamaForCausalLM"], tie_word_embeddings=True)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", sums(40))


def stated_for(base: Path, rows: Path, method: str) -> TrainInputs:
    """Batches of 5 on two ranks: one rank has one micro-batch less in some steps."""
    changes: dict[str, Any] = {
        "lora": Lora(rank=4, alpha=8.0, target=("attention", "mlp")),
        "full": None,
    }
    return inputs(
        base,
        rows,
        type=method,
        lora=changes[method],
        trainer="general",
        numerics=GENERAL_NUMERICS,
        learning_rate=1e-3,
        batch_size=3,
        checkpoints=(12, 24),
        validation_share=0.1,
    )


def rounded(base: Path, folder: Path) -> Path:
    """Writes a base whose weights are bfloat16, as most published ones are."""
    shutil.copytree(base, folder)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def sharded(store: Store, stated: TrainInputs, base: Path, rows: Path, number: int = 1) -> TrainTask:
    task = order(store, stated, base, rows, number=number).model_copy(update={"sharding": "always"})
    store.put(task.key, task.to_json())
    return task


def metrics(store: Store, task: TrainTask, folder: Path) -> list[Metric]:
    return from_lines(files(store, task, store_keys.DONE, folder)["metrics.jsonl"].read_bytes())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_ranks_train_what_one_process_trains_and_hold_half_each(
    method: str, base: Path, rows: Path, tmp_path: Path
) -> None:
    stated = stated_for(base, rows, method)
    alone, together = open_directory(tmp_path / "alone"), open_directory(tmp_path / "together")
    one, pair = order(alone, stated, base, rows), sharded(together, stated, base, rows)
    assert train_here(alone, one) == ExitCode.OK
    code, log = two(together, pair)
    assert code == ExitCode.OK, log
    held = [int(found) for found in re.findall(r"divided over 2 ranks: (\d+) bytes here", log)]
    assert len(held) == 2
    assert max(held) < 0.55 * 4 * parameters_of(base)
    tensors = load_file(base / "model.safetensors")
    vectors = sum(tensor.nbytes for tensor in tensors.values() if tensor.ndim < 2)
    assert sum(held) == 4 * parameters_of(base) + vectors
    ours, theirs = metrics(alone, one, tmp_path / "a"), metrics(together, pair, tmp_path / "b")
    for mine, their in zip(ours, theirs, strict=True):
        assert their.loss == pytest.approx(mine.loss, rel=1e-4)
        assert their.gradient_norm == pytest.approx(mine.gradient_norm, rel=1e-3)
    assert theirs[0].loss == pytest.approx(ours[0].loss, rel=1e-6)
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    mine_weights = load_file(files(alone, one, LAST, tmp_path / "a")[name])
    their_weights = load_file(files(together, pair, LAST, tmp_path / "b")[name])
    assert mine_weights.keys() == their_weights.keys()
    for key, weight in mine_weights.items():
        assert float((weight - their_weights[key]).abs().max()) < 2e-3, key

    last = their_weights
    for marker in (LAST, "state-000000008", store_keys.DONE):
        together.delete(store_keys.marker_key(pair.unit, marker))
    code, log = two(together, sharded(together, stated, base, rows, number=2))
    assert code == ExitCode.OK, log
    assert "resuming from state-000000004" in log
    again = load_file(files(together, pair, LAST, tmp_path / "c")[name])
    assert all(bool((again[key] == last[key]).all()) for key in last), "two ranks go on to the same bits"

    for marker in (LAST, "state-000000008", store_keys.DONE):
        together.delete(store_keys.marker_key(pair.unit, marker))
    assert train_here(together, order(together, stated, base, rows, number=3)) == ExitCode.OK
    alone_again = load_file(files(together, pair, LAST, tmp_path / "d")[name])
    assert all(float((alone_again[key] - last[key]).abs().max()) < 2e-3 for key in last), "one goes on from two"
    assert {marker.attempt for marker in list_markers(together, pair.unit) if marker.name == LAST} == {3}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("method", "family", "tied"),
    [
        ("full", "LlamaForCausalLM", True),
        ("full", "LlamaForCausalLM", False),
        ("full", "Qwen3MoeForCausalLM", False),
        ("lora", "LlamaForCausalLM", False),
    ],
)
def test_in_bfloat16_two_ranks_have_the_losses_of_one_process(
    method: str, family: str, tied: bool, rows: Path, tmp_path: Path
) -> None:
    """At a small learning rate, weights that are rounded to bfloat16 before they are used do not change the loss."""
    changes = {"precision": "bfloat16", "learning_rate": 1e-5}
    written = write_tiny_base(tmp_path / "written", FAMILIES[family], tie_word_embeddings=tied)
    base = rounded(written, tmp_path / "base")
    stated = stated_for(base, rows, method).model_copy(update=changes)
    alone, together = open_directory(tmp_path / "alone"), open_directory(tmp_path / "together")
    one, pair = order(alone, stated, base, rows), sharded(together, stated, base, rows)
    assert train_here(alone, one) == ExitCode.OK
    code, log = two(together, pair)
    assert code == ExitCode.OK, log
    ours, theirs = metrics(alone, one, tmp_path / "a"), metrics(together, pair, tmp_path / "b")
    for mine, their in zip(ours, theirs, strict=True):
        assert their.loss == pytest.approx(mine.loss, rel=5e-5)


def test_one_process_that_is_to_shard_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    store = open_directory(tmp_path / "store")
    task = sharded(store, stated_for(base, rows, "lora"), base, rows)
    assert train_here(store, task) == ExitCode.BAD_CONFIGURATION
    assert "`sharding: always` needs more than one rank" in failure(store, task).message
