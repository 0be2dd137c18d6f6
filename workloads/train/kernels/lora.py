"""LoRA on linear layers and on the fused experts of a mixture: modules, and the adapter under vLLM's keys.

y = W x + (alpha / rank) B A x, with W frozen and A (rank, in), B (out, rank) kept in float32 and computed in x's dtype
(Hu et al. 2021, https://arxiv.org/abs/2106.09685). Every expert's gate, up and down projection has its own A and B.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

PEFT_PREFIX = "base_model.model."


class LoraLinear(nn.Module):
    """A frozen linear layer with its low-rank update. Parameters: lora_A (rank, in), lora_B (out, rank)."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, lora_dtype: torch.dtype) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        device = base.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, dtype=lora_dtype, device=device))
        self.lora_B = nn.Parameter(torch.empty(base.out_features, rank, dtype=lora_dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) -> (..., out)."""
        low = functional.linear(x, self.lora_A.to(x.dtype))
        y: Tensor = self.base(x)
        return y + functional.linear(low, self.lora_B.to(x.dtype)) * self.scale


class LoraExperts(nn.Module):
    """The frozen fused experts of one layer with a low-rank update of each expert's gate, up and down projection.

    E experts, hidden size H, expert size I. Parameters: gate_up_lora_A (E, 2, rank, H) and gate_up_lora_B
    (E, 2, I, rank), gate first; down_lora_A (E, rank, I); down_lora_B (E, H, rank).
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float, lora_dtype: torch.dtype) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.rank = rank
        down = base.down_proj
        assert isinstance(down, Tensor)
        self.num_experts, self.hidden_dim, self.intermediate_dim = down.shape
        experts, hidden, inner = down.shape

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, dtype=lora_dtype, device=down.device))

        self.gate_up_lora_A = empty(experts, 2, rank, hidden)
        self.gate_up_lora_B = empty(experts, 2, inner, rank)
        self.down_lora_A = empty(experts, rank, inner)
        self.down_lora_B = empty(experts, hidden, rank)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """hidden_states (T, H), top_k_index (T, k), top_k_weights (T, k) -> (T, H): one expert after another."""
        gate_up, down = self.base.gate_up_proj, self.base.down_proj
        assert isinstance(gate_up, Tensor)
        assert isinstance(down, Tensor)
        dtype, inner = hidden_states.dtype, self.intermediate_dim
        out = torch.zeros_like(hidden_states)
        for expert in torch.unique(top_k_index).tolist():
            token, slot = torch.where(top_k_index == expert)
            x = hidden_states[token]
            low = functional.linear(x, self.gate_up_lora_A[expert].flatten(0, 1).to(dtype))
            b = self.gate_up_lora_B[expert].to(dtype)
            frozen = functional.linear(x, gate_up[expert])
            gate = frozen[:, :inner] + functional.linear(low[:, : self.rank], b[0]) * self.scale
            up = frozen[:, inner:] + functional.linear(low[:, self.rank :], b[1]) * self.scale
            active = functional.silu(gate) * up
            low = functional.linear(active, self.down_lora_A[expert].to(dtype))
            y = functional.linear(active, down[expert])
            y = y + functional.linear(low, self.down_lora_B[expert].to(dtype)) * self.scale
            out = out.index_add(0, token, y * top_k_weights[token, slot, None].to(dtype))
        return out


def initialise(modules: Iterable[nn.Module], seed: int) -> None:
    """A is uniform in +-1/sqrt(in) (like peft's), B zero; drawn on the CPU in module order, so the same on any
    device.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in modules:
            for name, parameter in module.named_parameters(recurse=False):
                if name.endswith("lora_A"):
                    bound = 1 / math.sqrt(parameter.shape[-1])
                    parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
                elif name.endswith("lora_B"):
                    parameter.zero_()


def lora_modules(model: nn.Module) -> Iterator[tuple[str, LoraLinear | LoraExperts]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear | LoraExperts):
            yield name, module


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns every trainable parameter by its name in the model, in a fixed order."""
    return {
        f"{path}.{name}": parameter
        for path, module in lora_modules(model)
        for name, parameter in module.named_parameters(recurse=False)
    }


def adapter_views(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of `lora_parameters` (or a copy of them, on any device) as views under vLLM's keys.

    Every value is 2D, A (rank, in) and B (out, rank); a fused expert tensor becomes one view for each expert.
    """
    views: dict[str, Tensor] = {}
    for name, tensor in parameters.items():
        path, _, leaf = name.rpartition(".")
        prefix = PEFT_PREFIX + path
        if leaf in ("lora_A", "lora_B"):
            views[f"{prefix}.{leaf}.weight"] = tensor
        else:
            projections, _, factor = leaf.partition("_lora_")
            for expert in range(tensor.shape[0]):
                if projections == "gate_up":
                    views[f"{prefix}.{expert}.gate_proj.lora_{factor}.weight"] = tensor[expert, 0]
                    views[f"{prefix}.{expert}.up_proj.lora_{factor}.weight"] = tensor[expert, 1]
                else:
                    views[f"{prefix}.{expert}.down_proj.lora_{factor}.weight"] = tensor[expert]
    return views


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Returns the model's adapter under vLLM's keys; detached views, no copies."""
    return adapter_views({name: parameter.detach() for name, parameter in lora_parameters(model).items()})


def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies an adapter with the keys of `adapter_state` into the model. Raises ValueError if keys or shapes differ."""
    views = adapter_state(model)
    missing, unknown = sorted(views.keys() - state.keys()), sorted(state.keys() - views.keys())
    if missing or unknown:
        raise ValueError(
            f"the adapter does not fit this model: {len(missing)} keys missing (first: {missing[:1]}), "
            f"{len(unknown)} unknown (first: {unknown[:1]}); was it trained with other targets or on another base?"
        )
    for key, view in views.items():
        if view.shape != state[key].shape:
            raise ValueError(f"{key} has shape {tuple(state[key].shape)}, this model needs {tuple(view.shape)}")
    for key, view in views.items():
        view.copy_(state[key])
