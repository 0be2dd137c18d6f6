"""The changes to a transformers model for training, by name, and the versions for which they were checked.

1. `add_lora` puts LoraLinear in place of linear layers and LoraExperts in place of fused experts. Any architecture
   whose layers have the known names; the model's own forward still works.
2. `loss_sum_and_count` runs the decoder layers on a packed row itself (kernels/decoder.py) when the architecture and
   the transformers release are known (`PACKED_ARCHITECTURES`, `PACKED_RELEASES`); otherwise it warns and runs the
   model's own forward, document by document.
3. On the first packed forward the frozen expert weights move into buffers with room for the LoRA factors
   (kernels/augmented.py); the model's parameters become views of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn

from workloads.train.kernels.cross_entropy import reference_loss_sum
from workloads.train.kernels.decoder import packed_hidden_states, packed_loss_sum
from workloads.train.kernels.lora import (
    LoraExperts,
    LoraLinear,
    adapter_state,
    adapter_views,
    initialise,
    load_adapter_state,
    lora_parameters,
)
from workloads.train.kernels.norms import reference_rms_norm
from workloads.train.packed import PackedBatch

Target = Literal["attention", "experts", "mlp"]
LINEAR_TARGETS: dict[str, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    "mlp": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
}
FUSED_EXPERTS = ("Qwen3MoeExperts",)
PACKED_ARCHITECTURES = ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
PACKED_RELEASES = ("5.16", "5.17", "5.18", "5.19")


def add_lora(
    model: nn.Module,
    rank: int,
    alpha: float,
    target: Collection[str],
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> list[str]:
    """Freezes the model and adds LoRA to the kinds of layers in `target`: any of attention, experts, mlp (the dense
    MLPs).

    `dtype` is that of the LoRA parameters; they are computed in the model's dtype. Returns the paths of the changed
    modules. Raises ValueError for a target that this model does not have.
    """
    if rank < 1:
        raise ValueError(f"lora rank must be at least 1, not {rank}")
    model.requires_grad_(False)
    found: dict[str, int] = dict.fromkeys(target, 0)
    added: list[nn.Module] = []
    paths: list[str] = []
    for path, module in list(model.named_modules()):
        kind = _target_of(path, module)
        if kind in found:
            make: Callable[..., nn.Module] = LoraLinear if isinstance(module, nn.Linear) else LoraExperts
            replacement = make(module, rank, alpha, dtype)
            model.set_submodule(path, replacement)
            added.append(replacement)
            paths.append(path)
            found[kind] += 1
    for kind, count in found.items():
        if count == 0:
            raise ValueError(
                f"lora target {kind!r}: {type(model).__name__} has no such layers; known targets are "
                f"attention, mlp (dense models) and experts (fused experts of {', '.join(FUSED_EXPERTS)})"
            )
    initialise(added, seed)
    return paths


def _target_of(path: str, module: nn.Module) -> str | None:
    if type(module).__name__ in FUSED_EXPERTS:
        return "experts"
    if isinstance(module, nn.Linear):
        for kind, names in LINEAR_TARGETS.items():
            if path.endswith(names):
                return kind
    return None


def why_not_packed(model: nn.Module) -> str | None:
    """Returns why this model must run document by document; None if the packed forward supports it."""
    if type(model).__name__ not in PACKED_ARCHITECTURES:
        return f"{type(model).__name__} is none of {', '.join(PACKED_ARCHITECTURES)}"
    release = ".".join(transformers.__version__.split(".")[:2])
    if release not in PACKED_RELEASES:
        return f"transformers {transformers.__version__} is none of the releases {', '.join(PACKED_RELEASES)}"
    config: Any = model.config
    if config.attention_bias:
        return "its attention has biases"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}, not silu"
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head_size & (head_size - 1):
        return f"its heads have {head_size} elements, no power of two"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()) or (
        type(model).__name__ == "Qwen3MoeForCausalLM" and config.sliding_window
    ):
        return "its attention has a sliding window"
    return None


def loss_sum_and_count(model: nn.Module, batch: PackedBatch) -> tuple[Tensor, int]:
    """Returns the sum of the cross-entropy over the batch's supervised tokens (a float32 scalar) and their number.

    Divide by the supervised tokens of the whole optimizer step, over all its micro-batches and ranks. A model that the
    packed forward does not support runs document by document, with a RuntimeWarning that says why.
    """
    if batch.supervised_tokens == 0:
        raise ValueError("the batch has no supervised token: its loss is undefined")
    reason = why_not_packed(model)
    if reason is None:
        return packed_loss_sum(model, batch), batch.supervised_tokens
    warnings.warn(f"training document by document, much slower: {reason}", RuntimeWarning, stacklevel=2)
    return per_document_loss_sum(model, batch), batch.supervised_tokens


def hidden_states(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Returns (T, H) after the last norm, as in training: packed if the packed forward supports the model."""
    if why_not_packed(model) is not None:
        return per_document_hidden_states(model, batch)
    norm: Any = model.base_model.norm
    return reference_rms_norm(packed_hidden_states(model, batch), norm.weight, norm.variance_epsilon)


def per_document_loss_sum(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Returns the sum of `loss_sum_and_count` from the model's own forward on one document after another: the
    reference.
    """
    rows = per_document_hidden_states(model, batch).index_select(0, batch.target_positions - 1)
    targets = batch.input_ids.index_select(0, batch.target_positions)
    return reference_loss_sum(rows, model.get_output_embeddings().weight, targets)  # type: ignore[operator]


def per_document_hidden_states(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Returns (T, H) after the last norm, from the model's own forward."""
    pieces = torch.split(batch.input_ids, list(batch.document_lengths))
    decoder = model.base_model
    assert isinstance(decoder, nn.Module)
    return torch.cat([decoder(input_ids=ids[None], use_cache=False).last_hidden_state[0] for ids in pieces])


__all__ = [
    "PackedBatch",
    "adapter_state",
    "adapter_views",
    "add_lora",
    "hidden_states",
    "load_adapter_state",
    "lora_parameters",
    "loss_sum_and_count",
    "per_document_loss_sum",
    "why_not_packed",
]
