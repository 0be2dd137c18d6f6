"""Loss and gradients do not depend on how a step's documents are divided: micro-batches, order, or processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from tests.train.kernels.models import random_batch, randomise_adapter, small_moe
from workloads.train.packed import pack
from workloads.train.patch import add_lora, lora_parameters, loss_sum_and_count

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
LENGTHS = (9, 14, 5, 21, 8, 3)
Document = tuple[list[int], list[bool]]
"""Token ids, and for each whether it is supervised."""


def step_documents() -> Iterator[Document]:
    whole = random_batch(LENGTHS, seed=7)
    targets = set(whole.target_positions.tolist())
    start = 0
    for length in LENGTHS:
        yield whole.input_ids[start : start + length].tolist(), [p in targets for p in range(start, start + length)]
        start += length


def gradient_of(parts: list[list[Document]]) -> torch.Tensor:
    """Returns the summed loss over all supervised tokens and its gradient for the adapter, with one micro-batch for
    each part.
    """
    model = small_moe()
    add_lora(model, rank=4, alpha=4.0, target=("attention", "experts"))
    randomise_adapter(model)
    total = torch.zeros(1)
    for part in parts:
        loss, _ = loss_sum_and_count(model, pack(part))
        loss.backward()
        total += loss.detach()
    gradients = [parameter.grad for parameter in lora_parameters(model).values()]
    return torch.cat([total, *(gradient.flatten() for gradient in gradients if gradient is not None)])


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_micro_batches_of_any_size_give_the_same_loss_and_gradient(cut: int) -> None:
    documents = list(step_documents())
    expected = gradient_of([documents])
    actual = gradient_of([documents[:cut], documents[cut:]])
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient_of([documents[::-1]]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.train.kernels.test_data_parallel", str(tmp_path)]
    ranks = [
        subprocess.Popen(command, cwd=ROOT, env={**environment, "RANK": str(rank), "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    expected = gradient_of([list(step_documents())])
    for rank in range(2):
        actual = torch.tensor(json.loads((tmp_path / f"{rank}.json").read_text()))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def run_rank(directory: Path) -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    summed = gradient_of([list(step_documents())[rank::2]])
    distributed.all_reduce(summed)
    (directory / f"{rank}.json").write_text(json.dumps(summed.tolist()))
    distributed.destroy_process_group()


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]))
