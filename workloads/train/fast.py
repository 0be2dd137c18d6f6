"""The fast trainer: Qwen3 and Qwen3-MoE on packed rows, with the kernels of kernels/."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from workloads.api.units import TrainInputs
from workloads.data.samples import TrainingData
from workloads.data.tokens import TokenisedRows
from workloads.train.adapter_files import adapter_config, misfits, write_adapter
from workloads.train.batches import micro_batches
from workloads.train.canary import log_probs
from workloads.train.flat_parameters import FlatParameters
from workloads.train.kernels.lora import adapter_views
from workloads.train.memory import micro_batch_tokens, predict, sizes_of
from workloads.train.model import DTYPES, BadModel, load_base, model_config
from workloads.train.packed import PackedBatch, pack
from workloads.train.patch import (
    Target,
    adapter_state,
    add_lora,
    lora_parameters,
    loss_sum_and_count,
    per_document_hidden_states,
    why_not_packed,
)
from workloads.train.ranks import Ranks

CPU_MICRO_BATCH_TOKENS = 4096
MODULES: dict[Target, tuple[str, ...]] = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
    "experts": ("gate_proj", "up_proj", "down_proj"),
}


class FastTrainer:
    """A Trainer. It predicts its memory, and refuses a base that does not fit before it loads it."""

    packages: Sequence[str] = ()

    def __init__(self, base: Path, inputs: TrainInputs, ranks: Ranks, model: nn.Module | None = None) -> None:
        """`model`: replaces the base in `base`, for measurements. Raises BadModel."""
        self._base, self._inputs = base, inputs
        self._limit_tokens = _micro_batch_tokens(base, inputs, ranks) if model is None else 0
        self.model = load_base(base, inputs.precision, ranks.device) if model is None else model

    def log_probs_at(self, ids: Sequence[int], positions: Sequence[int]) -> list[float]:
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        batch = pack([(ids, [False] * len(ids))]).to(head.weight.device)
        with torch.no_grad():
            hidden = per_document_hidden_states(self.model, batch)
            scores = head(hidden[[position - 1 for position in positions]]).float().log_softmax(-1)
        return [float(scores[row, ids[position]]) for row, position in enumerate(positions)]

    def log_probs(self, sequences: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
        return log_probs(self.model, sequences)

    def token_matrices(self) -> tuple[Tensor, Tensor]:
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()  # type: ignore[operator]
        return embedding.weight, head.weight

    def add_parameters(self) -> FlatParameters:
        lora = self._inputs.adapter
        try:
            add_lora(self.model, lora.rank, lora.alpha, lora.target, seed=self._inputs.seed)
        except ValueError as error:
            raise BadModel(str(error)) from error
        if problems := misfits(adapter_state(self.model), self._base):
            raise BadModel(f"the adapter would not load on the base: {len(problems)} keys, first: {problems[0]}")
        return FlatParameters(lora_parameters(self.model))

    @property
    def warnings(self) -> Sequence[str]:
        reason = why_not_packed(self.model)
        return () if reason is None else (f"NotPacked: {reason}: trained document by document, slowly",)

    def micro_batch_tokens(self, data: TrainingData, parameters: object) -> int:  # noqa: ARG002
        return self._limit_tokens

    def micro_batches(
        self,
        rows: TokenisedRows,
        indices: Sequence[int],
        limit_tokens: int,
        rank: int,
        ranks: int,
        step: int,  # noqa: ARG002
    ) -> Sequence[PackedBatch]:
        return micro_batches(rows, indices, limit_tokens, rank, ranks)

    def loss_sum(self, batch: PackedBatch) -> Tensor:
        return loss_sum_and_count(self.model, batch)[0]

    def write_checkpoint(self, values: Mapping[str, Tensor], folder: Path) -> dict[str, Path]:
        lora = self._inputs.adapter
        modules = {module for target in lora.target for module in MODULES[target]}  # type: ignore[index]
        cast = {name: value.to(DTYPES[self._inputs.precision]) for name, value in values.items()}
        return write_adapter(adapter_views(cast), adapter_config(lora, modules), folder)


def _micro_batch_tokens(base: Path, inputs: TrainInputs, ranks: Ranks) -> int:
    """On a GPU, returns the tokens that its memory allows, computed before the base is loaded.

    Raises BadModel for too long a sequence.
    """
    if ranks.device.type == "cpu":
        return max(inputs.sequence_tokens, CPU_MICRO_BATCH_TOKENS)
    memory = predict(
        sizes_of(model_config(base)), inputs.adapter.rank, inputs.adapter.target, DTYPES[inputs.precision].itemsize
    )
    device_bytes = torch.cuda.mem_get_info(ranks.device)[1]
    try:
        return micro_batch_tokens(memory, device_bytes, inputs.sequence_tokens, ranks.count)
    except ValueError as error:
        raise BadModel(str(error)) from error
