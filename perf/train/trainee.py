"""What the trainer's own loop needs to run on random weights and documents: a model, an adapter, data, a task."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import numpy as np
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from perf.train.shapes import CONFIG
from workloads.api.tasks import FileSource, ModelSource, Owner, TrainTask
from workloads.api.units import Columns, Lora, Template, TrainInputs, unit_of
from workloads.data.samples import TrainingData
from workloads.data.tokens import TokenisedRows
from workloads.train.fast import FastTrainer
from workloads.train.flat_parameters import FlatParameters
from workloads.train.loop import Training
from workloads.train.memory import Memory, predict, sizes_of
from workloads.train.packed import PackedBatch
from workloads.train.patch import add_lora, lora_parameters, loss_sum_and_count
from workloads.train.ranks import Ranks
from workloads.train.resume import Cursor

RANK = 32
TARGET = ("attention", "experts")
LEARNING_RATE = 1e-4


def shapes(layers: int, tiny: bool) -> Qwen3MoeConfig:
    """Qwen3-30B-A3B's with this many layers; `tiny`: the same code in seconds on a CPU, its times mean nothing."""
    config = deepcopy(CONFIG)
    config.num_hidden_layers = layers
    if tiny:
        small = {"vocab_size": 512, "hidden_size": 64, "moe_intermediate_size": 32, "head_dim": 16}
        few = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 2}
        for name, value in (small | few).items():
            setattr(config, name, value)
    return config


def memory_of(config: Qwen3MoeConfig) -> Memory:
    return predict(sizes_of(config), RANK, TARGET)


@dataclass(frozen=True)
class Trainee:
    """`start`: the adapter's values before any step, to begin again from. The same bits on every rank."""

    config: Qwen3MoeConfig
    model: Qwen3MoeForCausalLM
    adapter: FlatParameters
    start: torch.Tensor

    def loss_sum(self, batch: PackedBatch) -> torch.Tensor:
        return loss_sum_and_count(self.model, batch)[0]

    def begin_again(self) -> None:
        self.adapter.values.copy_(self.start)
        self.adapter.first_moments.zero_()
        self.adapter.second_moments.zero_()


def build(config: Qwen3MoeConfig, ranks: Ranks) -> Trainee:
    """bfloat16 weights drawn on the device; B of the adapter drawn too, so that every gradient is non-zero."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with ranks.device:
        model = Qwen3MoeForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    add_lora(model.eval(), RANK, float(RANK), TARGET)
    named = lora_parameters(model)
    with torch.no_grad():
        for name, parameter in named.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.01)
    adapter = FlatParameters(named)
    ranks.share(adapter.values)
    return Trainee(config, model, adapter, adapter.values.to("cpu", copy=True))


def random_rows(lengths: Sequence[int], vocabulary: int, seed: int) -> TokenisedRows:
    """Rows of random tokens with a prompt of one token: all others are supervised, the dearest case for the head."""
    kept = np.asarray(lengths, dtype=np.int64)
    none, ones = np.zeros(len(kept), dtype=bool), np.ones(len(kept), dtype=bool)
    return TokenisedRows(
        lines=np.arange(1, len(kept) + 1),
        lengths=kept,
        prompt_lengths=np.ones(len(kept), dtype=np.int64),
        kept=kept,
        overlong=none,
        unsupervised=none,
        truncated=none,
        closes_think=none,
        ends=ones,
        ends_within=none,
        offsets=np.concatenate([[0], np.cumsum(kept)]),
        learned=kept - 1,
        thinks_on=none,
        tokens=np.random.default_rng(seed).integers(0, vocabulary, int(kept.sum()), dtype=np.int32),
    )


def task_of(documents: int, steps: int, sequence_tokens: int, checkpoints: Sequence[int] = ()) -> TrainTask:
    """`steps` of `documents` samples each, checkpoints after the steps `checkpoints`."""
    inputs = TrainInputs(
        base_content="sha256:" + "0" * 64,
        data_content="0" * 64,
        columns=Columns(),
        template=Template(name="chatml"),
        samples=documents * steps,
        batch_size=documents,
        sequence_tokens=sequence_tokens,
        overlong="truncate",
        on_short="repeat",
        checkpoints=tuple(documents * step for step in checkpoints),
        lora=Lora(rank=RANK, alpha=float(RANK), target=TARGET),
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.0,
        gradient_clip=1.0,
        validation_share=0.0,
        precision="bfloat16",
        seed=0,
    )
    return TrainTask(
        unit=unit_of(inputs),
        number=1,
        owner=Owner(experiment="perf", uid8="00000000"),
        created=datetime(2026, 1, 1, tzinfo=UTC),
        inputs=inputs,
        base=ModelSource(location="random", content=inputs.base_content),
        data=FileSource(location="random", sha256=inputs.data_content),
        save_state_every_seconds=3600.0,
    )


def training(
    trainee: Trainee,
    task: TrainTask,
    rows: TokenisedRows,
    ranks: Ranks,
    micro_batch_tokens: int,
    *,
    kind: type[Training] = Training,
    leader: Any = None,
    canaries: Callable[[], tuple[Any, ...]] = tuple,
) -> Training:
    """The trainer's loop from the adapter's first values on, over `rows` again and again in their order."""
    trainee.begin_again()
    samples = task.inputs.samples
    data = TrainingData(
        rows=rows,
        order=tuple(sample % len(rows) for sample in range(samples)),
        validation=(),
        statistics=None,  # type: ignore[arg-type]  # for a finished task's record
        warnings=(),
    )
    return kind(
        task=task,
        leader=leader,
        terminated=threading.Event(),
        ranks=ranks,
        trainer=FastTrainer(Path("random"), task.inputs, ranks, trainee.model),
        adapter=trainee.adapter,
        data=data,
        canaries=canaries,
        micro_batch_tokens=micro_batch_tokens,
        cursor=Cursor(),
        metrics=[],
        resumed=None,
    )
