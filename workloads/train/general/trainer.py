"""The general trainer: its loss comes from the model's own logits, so it supports any head and attention."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from workloads.api.units import Sharding, TrainInputs
from workloads.data.samples import TrainingData
from workloads.data.tokens import TokenisedRows
from workloads.models import FAMILIES
from workloads.models.memory import is_sharded, parameters_of, training_bytes
from workloads.train.adapter_files import adapter_config, misfits, write_adapter
from workloads.train.fast import CPU_MICRO_BATCH_TOKENS
from workloads.train.flat_parameters import FlatParameters
from workloads.train.general.base import load_base
from workloads.train.general.batches import PaddedBatch, padded_micro_batches
from workloads.train.general.full import check_names, fixed_tensors, saved_tensors, train_all, write_model
from workloads.train.general.lora import adapter_tensors, layouts, trainable, wrap
from workloads.train.general.loss import summed_cross_entropy
from workloads.train.general.memory import (
    BatchPlan,
    CudaMemory,
    DeviceMemory,
    HostMemory,
    check_memory,
    plan_micro_batches,
)
from workloads.train.general.sharding import ShardedParameters, bytes_here, discard_failed_pass, shard, whole
from workloads.train.general.start import load_start
from workloads.train.general.targets import find_targets
from workloads.train.memory import MICRO_BATCH_TOKENS
from workloads.train.model import DTYPES, BadModel, check_weights
from workloads.train.ranks import Ranks
from workloads.train.trainer import TrainedParameters

logger = logging.getLogger("potstill")


class GeneralTrainer:
    """The `Trainer` for any causal language model of transformers. `sharded`: whether the ranks shard the weights."""

    packages: Sequence[str] = ("peft", "accelerate")
    _fixed: Mapping[str, Tensor]
    """Tensors that a checkpoint has and training does not change: the model's persistent buffers."""

    def __init__(
        self,
        base: Path,
        inputs: TrainInputs,
        ranks: Ranks,
        memory: DeviceMemory | None = None,
        model: Any = None,
        start: Path | None = None,
        sharding: Sharding = "auto",
    ) -> None:
        """Loads the base. Raises BadModel if it cannot be loaded, or does not fit.

        `memory`: the memory of this rank's device. `model`: replaces the base in `base`, for measurements. `start`:
        folder of the adapter with which training begins; None: a new adapter.
        """
        self._base, self._inputs, self._ranks, self._start = base, inputs, ranks, start
        on_gpu = ranks.device.type == "cuda"
        self._memory = memory or (CudaMemory(ranks.device, ranks.count) if on_gpu else HostMemory())
        self._warnings: list[str] = []
        self.sharded = False
        if model is None:
            check_weights(base)
            needed = training_bytes(parameters_of(base), inputs.type, inputs.precision)
            usable = self._memory.limit_bytes if on_gpu else None
            if sharding == "always" and ranks.count == 1:
                raise BadModel("`sharding: always` needs more than one rank; give the profile's train pods more GPUs")
            self.sharded = is_sharded(sharding, ranks.count, needed, usable)
            check_memory(needed // ranks.count if self.sharded else needed, usable)
            precision = "float32" if inputs.type == "full" else inputs.precision
            device = torch.device("cpu") if self.sharded else ranks.device
            model, self._warnings = load_base(base, precision, device)
        self.model = self._whole_model = model
        self._family = FAMILIES.get(type(model).__name__)
        self._class_name = type(model).__name__
        if self.sharded:
            model.requires_grad_(inputs.type == "full")
            is_mixed = inputs.type == "full" and inputs.precision == "bfloat16"
            shard(model, ranks, torch.bfloat16 if is_mixed else None)
            logger.info("weights are divided over %d ranks: %d bytes here", ranks.count, bytes_here(model))
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._matrices = _token_matrices(model)
        self.plan: BatchPlan | None = None

    @property
    def warnings(self) -> Sequence[str]:
        known = [] if self._family else [f"NotInTheTable: {self._class_name} has no acceptance test of Potstill's"]
        return [*self._warnings, *known]

    def log_probs_at(self, ids: Sequence[int], positions: Sequence[int]) -> list[float]:
        first = min(positions) - 1
        tokens = torch.tensor([list(ids)], device=self._ranks.device)
        with torch.no_grad():
            logits = self._logits(tokens, first)[0]
        rows = logits[[position - 1 - first for position in positions]].float().log_softmax(-1)
        return [float(rows[row, ids[position]]) for row, position in enumerate(positions)]

    def log_probs(self, sequences: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
        with self._evaluating():
            return [tuple(self.log_probs_at(ids, range(1, len(ids)))) for ids in sequences]

    def token_matrices(self) -> tuple[Tensor, Tensor]:
        embedding, head = (whole(matrix) for matrix in self._matrices)
        return embedding, head

    def add_parameters(self) -> TrainedParameters:
        if self._inputs.type == "full":
            if self._base.is_dir():
                check_names(self.model, self._base)
            self._fixed = fixed_tensors(self.model)
            parameters = train_all(self.model)
            return ShardedParameters(parameters, self._ranks) if self.sharded else FlatParameters(parameters)
        lora = self._inputs.adapter
        targets = find_targets(self.model, self._family, lora.target)
        if self.sharded and targets.parameters:
            raise BadModel("sharding: experts have no adapters in a sharded model; leave them out of the target")
        self.model = wrap(self.model, targets, lora, self._inputs.seed)
        self._layouts = layouts(self.model, self._family)
        self.model.eval()
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Dropout) and ".lora_dropout." in name:
                module.train()
        parameters = trainable(self.model)
        if self._start is not None:
            load_start(parameters, self._layouts, lora, self._start)
        named = {name: parameter.detach() for name, parameter in parameters.items()}
        tensors = adapter_tensors(named, self._layouts, self._family)
        if self._base.is_dir() and (problems := misfits(tensors, self._base)):
            raise BadModel(f"the adapter would not load on the base: {len(problems)} keys, first: {problems[0]}")
        return FlatParameters(parameters)

    def micro_batch_tokens(self, data: TrainingData, parameters: TrainedParameters) -> int:
        """Implements `Trainer.micro_batch_tokens` by a measured step of the longest used sample."""
        used = {*data.order, *data.validation}
        longest = max(int(data.rows.kept[index]) for index in used)
        return self.plan_memory(longest, parameters).tokens

    def plan_memory(self, longest_tokens: int, parameters: TrainedParameters) -> BatchPlan:
        """Measures steps and sets gradient checkpointing. Returns the plan. Raises BadModel if no step fits."""
        # Sharded gradients take memory from the first pass on, so that the second pass has the peak.
        passes = 2 if self.sharded and self._inputs.type == "full" else 1

        def run(batch: PaddedBatch, checkpointing: bool) -> None:
            self._set_checkpointing(checkpointing)
            try:
                for _ in range(passes):
                    torch.autograd.backward(self.loss_sum(batch.to(self._ranks.device)))
            except RuntimeError:
                if self.sharded:
                    discard_failed_pass(self._whole_model)
                raise
            finally:
                parameters.clear()

        on_gpu = self._ranks.device.type == "cuda"
        largest_tokens = MICRO_BATCH_TOKENS if on_gpu else CPU_MICRO_BATCH_TOKENS
        # Sharded ranks run each step together, so they must try the same plans.
        self.plan = plan_micro_batches(
            self._memory, longest_tokens, run, largest_tokens, self._ranks.largest, together=self.sharded
        )
        self._set_checkpointing(self.plan.checkpointing)
        peak = "not measured" if self.plan.peak_bytes is None else f"{self.plan.peak_bytes / 2**30:.1f} GiB"
        logger.info(
            "micro-batches of %s tokens, gradient checkpointing %s, peak %s",
            self.plan.tokens,
            "on" if self.plan.checkpointing else "off",
            peak,
        )
        return self.plan

    def micro_batches(
        self, rows: TokenisedRows, indices: Sequence[int], limit_tokens: int, rank: int, ranks: int, step: int
    ) -> Sequence[PaddedBatch]:
        # Sharded ranks run each step together, so they need the same number of micro-batches.
        return padded_micro_batches(
            rows, indices, limit_tokens, rank, ranks, f"{self._inputs.seed}/{step}", together=self.sharded
        )

    def loss_sum(self, batch: PaddedBatch) -> Tensor:
        """Implements `Trainer.loss_sum`; without dropout if gradients are off, as for a validation loss."""
        if self._inputs.lora is not None and self._inputs.lora.dropout:
            torch.manual_seed(batch.dropout_seed)
        with nullcontext() if torch.is_grad_enabled() else self._evaluating():
            logits = self._logits(batch.input_ids, batch.first)
        rows = batch.documents * logits.shape[1] + batch.positions - 1 - batch.first
        targets = batch.input_ids[batch.documents, batch.positions]
        return summed_cross_entropy(logits, rows, targets)

    def write_checkpoint(self, values: Mapping[str, Tensor], folder: Path) -> dict[str, Path]:
        if self._inputs.type == "full":
            tensors = saved_tensors(self.model, {**values, **self._fixed})
            return write_model(tensors, self._base, folder, self._inputs.precision)
        cast = {name: value.to(DTYPES[self._inputs.precision]) for name, value in values.items()}
        tensors = adapter_tensors(cast, self._layouts, self._family)
        modules = {key.split(".lora_")[0].rpartition(".")[2] for key in tensors}
        return write_adapter(tensors, adapter_config(self._inputs.adapter, modules), folder)

    def _logits(self, tokens: Tensor, first: int) -> Tensor:
        """Returns the model's logits (D, W - first, V) of the positions from `first` on. tokens: (D, W)."""
        kept = {"logits_to_keep": tokens.shape[1] - first} if self._keeps_logits else {}
        with self._autocast():
            logits: Tensor = self.model(input_ids=tokens, use_cache=False, **kept).logits
        return logits if self._keeps_logits else logits[:, first:]

    def _autocast(self) -> AbstractContextManager[Any]:
        """Casts to bfloat16 in the forward pass if that is the precision; the trained parameters stay float32."""
        if self._inputs.precision == "float32":
            return nullcontext()
        return torch.autocast(self._ranks.device.type, dtype=torch.bfloat16)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Puts the whole model in eval mode, and restores each module's mode afterwards."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def _set_checkpointing(self, on: bool) -> None:
        """Transformers checkpoints only layers in training mode; everything else stays in eval mode."""
        inner = self.model if self._inputs.type == "full" else self.model.get_base_model()
        if on:
            inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        elif inner.is_gradient_checkpointing:
            inner.gradient_checkpointing_disable()
        for module in inner.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = on


def _token_matrices(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Returns the weights of the embedding and of the head; the embedding's twice if there is no separate head."""
    embedding = model.get_input_embeddings().weight  # type: ignore[operator]
    head = model.get_output_embeddings()  # type: ignore[operator]
    weight = getattr(head, "weight", None)
    return embedding, embedding if weight is None else weight
