from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.train.world import END_OF_TEXT, inputs
from workloads.data.end_token import EndToken
from workloads.data.samples import TrainingData, prepare
from workloads.text.tokenizer import load_tokenizer
from workloads.train.batches import micro_batches, supervised_tokens
from workloads.train.flat_parameters import FlatParameters
from workloads.train.model import load_base
from workloads.train.packed import PackedBatch
from workloads.train.patch import add_lora, lora_parameters, loss_sum_and_count
from workloads.train.ranks import Ranks
from workloads.train.step import mean_loss, optimizer_step

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(dense: Path, rows: Path) -> TrainingData:
    return prepare(rows, inputs(dense, rows), load_tokenizer(dense), EndToken(END_OF_TEXT, "<|endoftext|>", "test"))


def loss_of(model: nn.Module) -> Callable[[PackedBatch], Tensor]:
    return lambda batch: loss_sum_and_count(model, batch)[0]


def adapted(base: Path, targets: Sequence[str]) -> tuple[nn.Module, FlatParameters]:
    model = load_base(base, "float32", torch.device("cpu"))
    add_lora(model, 4, 8.0, targets, seed=3)
    generator = torch.Generator().manual_seed(5)
    for parameter in lora_parameters(model).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model, FlatParameters(lora_parameters(model))


def step(model: nn.Module, adapter: FlatParameters, data: TrainingData, limit: int) -> tuple[float, float, Tensor]:
    """Returns the loss, the gradient norm and the gradient of one step that does not change the adapter."""
    indices = data.order[:6]
    count = supervised_tokens(data.rows, indices)
    optimizer = adapter.adamw(0.0)
    batches = micro_batches(data.rows, indices, limit)
    reading = optimizer_step(loss_of(model), adapter, optimizer, batches, count, 0.0, 0.0, ALONE, False, lambda: None)
    loss_sum, norm, told = reading.wait()
    assert not told
    return loss_sum / count, norm, adapter.gradients.clone()


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_loss_and_gradient_do_not_depend_on_the_micro_batches(
    kind: str, data: TrainingData, request: pytest.FixtureRequest
) -> None:
    base: Path = request.getfixturevalue(kind)
    model, adapter = adapted(base, ("attention", "experts" if kind == "moe" else "mlp"))
    packed = step(model, adapter, data, 100_000)
    one_by_one = step(model, adapter, data, 1)
    assert one_by_one[0] == pytest.approx(packed[0], rel=1e-5)
    assert one_by_one[1] == pytest.approx(packed[1], rel=1e-4)
    torch.testing.assert_close(one_by_one[2], packed[2], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_the_loss_is_the_mean_over_supervised_tokens_of_the_models_own_logits(
    kind: str, data: TrainingData, request: pytest.FixtureRequest
) -> None:
    model, adapter = adapted(request.getfixturevalue(kind), ("attention", "experts" if kind == "moe" else "mlp"))
    losses: list[Tensor] = []
    for index in data.order[:6]:
        ids = torch.tensor(data.rows.ids(index))
        supervised = torch.tensor(data.rows.supervised(index))
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        losses.append(nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")[supervised[1:]])
    assert step(model, adapter, data, 200)[0] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    count = supervised_tokens(data.rows, data.order[:6])
    batches = micro_batches(data.rows, data.order[:6], 200)
    assert mean_loss(loss_of(model), batches, count, ALONE) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_only_the_adapter_learns(dense: Path, data: TrainingData) -> None:
    model, adapter = adapted(dense, ("attention", "mlp"))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    indices = data.order[:6]
    optimizer = adapter.adamw(0.0)
    batches = micro_batches(data.rows, indices, 200)
    count = supervised_tokens(data.rows, indices)
    optimizer_step(loss_of(model), adapter, optimizer, batches, count, 1e-2, 1.0, ALONE, False, lambda: None)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(lora_parameters(model))


def test_the_flat_optimizer_is_adamw_on_every_parameter_with_the_norm_clipped_over_all(dense: Path) -> None:
    model, adapter = adapted(dense, ("attention", "mlp"))
    reference = {name: nn.Parameter(value.clone()) for name, value in adapter.named(adapter.values).items()}
    theirs = torch.optim.AdamW(reference.values(), lr=1e-2, weight_decay=0.1)
    ours = adapter.adamw(0.1)
    ours.param_groups[0]["lr"] = 1e-2
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for name, gradient in adapter.named(adapter.gradients).items():
            gradient.copy_(torch.randn(gradient.shape, generator=generator))
            reference[name].grad = gradient.clone()
        norm = torch.nn.utils.clip_grad_norm_(reference.values(), 0.5)
        theirs.step()
        assert float(adapter.clip(0.5)) == pytest.approx(float(norm), rel=1e-5)
        ours.step()
    for name, parameter in lora_parameters(model).items():
        torch.testing.assert_close(parameter, reference[name], rtol=1e-5, atol=1e-6)


def test_a_resumed_state_trains_like_an_uninterrupted_run(dense: Path, data: TrainingData) -> None:
    def steps(first: int, last: int, adapter: FlatParameters, model: nn.Module) -> None:
        optimizer = adapter.adamw(0.1, first)
        for number in range(first, last):
            indices = data.order[number * 4 : number * 4 + 4]
            count = supervised_tokens(data.rows, indices)
            batches = micro_batches(data.rows, indices, 200)
            optimizer_step(loss_of(model), adapter, optimizer, batches, count, 1e-2, 1.0, ALONE, False, lambda: None)

    model, whole = adapted(dense, ("attention", "mlp"))
    steps(0, 4, whole, model)
    model, first = adapted(dense, ("attention", "mlp"))
    steps(0, 2, first, model)
    saved = {name: vector.clone() for name, vector in first.state().items()}
    model, second = adapted(dense, ("attention", "mlp"))
    second.load(saved)
    steps(2, 4, second, model)
    assert torch.equal(whole.values, second.values)
    with pytest.raises(ValueError, match="first_moments"):
        second.load({"values": saved["values"]})
