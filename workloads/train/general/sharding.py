"""FSDP2 (`fully_shard` of torch): every rank has its part of each matrix, and gathers a layer while it computes it.

The parameters of an adapter are not sharded: they are small, and `FlatParameters` sums their gradients. If all weights
are trained, each rank also has its part of gradients and moments (`ShardedParameters`). The saved state has the layout
of one process, so that a run can continue with another number of ranks. Tested on CPUs (gloo) and measured on two GPUs
(`perf/train/sharded.py`).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from workloads.train.flat_parameters import BETAS, EPSILON, TAIL, slots_of
from workloads.train.ranks import Ranks
from workloads.train.snapshot import StepSnapshot


def shard(model: nn.Module, ranks: Ranks, computed_in: torch.dtype | None = None) -> None:
    """Shards the matrices of `model`, which is on the host, over the ranks' devices, in place.

    Vectors (norms, biases) are whole on every rank: they are small. `computed_in`: the dtype of gathered matrices;
    gradients are summed in float32. Autocast alone would keep a copy of every gathered matrix until the backward pass.
    Embeddings and experts are gathered in their own dtype, because autocast does not cast them either: a sharded
    training rounds as one process does.
    """
    cast = MixedPrecisionPolicy(
        param_dtype=computed_in, reduce_dtype=torch.float32 if computed_in else None, cast_forward_inputs=False
    )
    not_cast = MixedPrecisionPolicy(cast_forward_inputs=False)
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    vectors = {parameter for parameter in model.parameters() if parameter.ndim < 2}
    shared = _shared_parameters(model)
    kept = [module for module in model.modules() if _keeps_dtype(module)]
    alone = [module for module in kept if shared.isdisjoint(module.parameters())]
    policies: dict[nn.Module, MixedPrecisionPolicy] = dict.fromkeys(alone, not_cast)
    policies |= {module: cast for module in model.modules() if isinstance(module, GradientCheckpointingLayer)}
    policies[model] = cast if len(alone) == len(kept) else not_cast
    for module, policy in policies.items():
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=vectors)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # gradients are summed, not averaged
        module.set_force_sum_reduction_for_comms(True)
    for tensor in (*vectors, *model.buffers()):
        tensor.data = tensor.data.to(ranks.device)


def discard_failed_pass(model: nn.Module) -> None:
    """Makes a sharded model ready for the next forward pass after one, or its backward pass, raised an exception.

    Without this, gradients of the next pass are incomplete and gathered matrices stay in memory.
    """
    assert isinstance(model, FSDPModule)
    for parameter in model.parameters():
        parameter.grad = None
    model.reset_iter_state()


def _keeps_dtype(module: nn.Module) -> bool:
    """Returns whether autocast does not cast the module's matrices: an embedding, or experts in one parameter."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return False
    own = module.parameters(recurse=False)
    return isinstance(module, nn.Embedding) or any(parameter.ndim > 2 for parameter in own)


def _shared_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Returns the parameters that several modules have, such as the weight of an embedding and a tied head."""
    found = Counter(parameter for module in model.modules() for parameter in module.parameters(recurse=False))
    return {parameter for parameter, count in found.items() if count > 1}


def whole(tensor: Tensor) -> Tensor:
    """Returns the whole tensor. If it is sharded, every rank must call it, because it gathers."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_here(tensor: Tensor) -> Tensor:
    """Returns this rank's part of the tensor; all of it if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def bytes_here(model: nn.Module) -> int:
    """Returns the bytes of this rank's parameters."""
    return sum(part_here(parameter).nbytes for parameter in model.parameters())


class ShardedParameters:
    """The trained parameters of a sharded model. It implements `TrainedParameters`, like `FlatParameters` without
    sharding.

    Each rank updates its own parts, and every rank makes the same update of the vectors, which all ranks have. `tail`:
    (3,) float32, the loss sum and two flags (see `flat_parameters.TAIL`), which are summed over the ranks in each step.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], ranks: Ranks) -> None:
        self._ranks = ranks
        self._parameters: dict[str, Any] = dict(parameters)
        self._values = {name: part_here(parameter).detach() for name, parameter in self._parameters.items()}
        self._vectors = {name for name, parameter in parameters.items() if not isinstance(parameter, DTensor)}
        self._first = {name: torch.zeros_like(value) for name, value in self._values.items()}
        self._second = {name: torch.zeros_like(value) for name, value in self._values.items()}
        self.slots, self._size = slots_of({name: tuple(value.shape) for name, value in parameters.items()})
        self.tail = torch.zeros(TAIL, device=ranks.device)

    @property
    def state_bytes(self) -> int:
        return 3 * 4 * self._size

    def clear(self) -> None:
        """Frees the gradients: they are as large as the weights, and the next backward pass makes new ones."""
        self.tail.zero_()
        for name, parameter in self._parameters.items():
            parameter.grad = self._values[name].grad = None

    def reduce(self, ranks: Ranks) -> None:
        """Sums `tail` and the vectors' gradients over the ranks; the backward pass has summed the matrices'."""
        summed = [self.tail]
        for name, value in self._values.items():
            gradient = self._parameters[name].grad
            value.grad = torch.zeros_like(value) if gradient is None else part_here(gradient)
            if name in self._vectors:
                summed.append(value.grad)
        together = torch.cat([tensor.reshape(-1) for tensor in summed])
        ranks.sum(together)
        for tensor, total in zip(summed, together.split([tensor.numel() for tensor in summed]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def clip(self, largest_norm: float) -> Tensor:
        """Scales the gradient like `FlatParameters.clip`, with the norm over the parts of all ranks."""
        gradients = {name: value.grad for name, value in self._values.items() if value.grad is not None}
        counted = [g for name, g in gradients.items() if self._ranks.leads or name not in self._vectors]
        squares = torch.stack([gradient.square().sum() for gradient in counted]).sum()
        self._ranks.sum(squares)
        norm = squares.sqrt()
        if largest_norm > 0:
            factor = torch.clamp(largest_norm / (norm + 1e-6), max=1.0)
            for gradient in gradients.values():
                gradient.mul_(factor)
        return norm

    def adamw(self, weight_decay: float, steps_taken: int = 0) -> torch.optim.AdamW:
        """Returns AdamW like `FlatParameters.adamw`, for this rank's parts."""
        on_gpu = self.tail.is_cuda
        held = {name: value for name, value in self._values.items() if value.numel()}
        optimizer = torch.optim.AdamW(
            list(held.values()),
            lr=0.0,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=weight_decay,
            fused=on_gpu,
            foreach=False,
        )
        for name, value in held.items():
            step = torch.tensor(float(steps_taken), device=self.tail.device if on_gpu else "cpu")
            optimizer.state[value] = {"step": step, "exp_avg": self._first[name], "exp_avg_sq": self._second[name]}
        return optimizer

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Returns views of a whole vector of values or moments, by parameter name."""
        return {name: flat.narrow(0, slot.offset, slot.size).view(slot.shape) for name, slot in self.slots.items()}

    def snapshots(self, ranks: Ranks) -> "ShardSnapshots":
        return ShardSnapshots(self, ranks)

    def gather(self) -> dict[str, Tensor]:
        """Every rank must call it."""
        found: dict[str, Tensor] = {}
        for kind, parts in self._kinds().items():
            if self._ranks.leads:
                found[kind] = torch.zeros(self._size)
            for name, slot in self.slots.items():
                tensor = parts[name] if name in self._vectors else self._like(name, parts[name]).full_tensor()
                if self._ranks.leads:
                    found[kind].narrow(0, slot.offset, slot.size).copy_(tensor.reshape(-1))
        return found

    def restore(self, state: Mapping[str, Tensor] | None, ranks: Ranks) -> None:
        """Sets values and moments from rank 0's `state`; the other ranks give None. Every rank must call it.

        Raises ValueError on rank 0 if a vector is missing or has another size.
        """
        if state is not None:
            for kind in self._kinds():
                if kind not in state or state[kind].shape != (self._size,):
                    raise ValueError(f"resume state: {kind} should have shape {(self._size,)}")
        for kind, parts in self._kinds().items():
            for name, slot in self.slots.items():
                tensor = torch.empty(slot.shape, device=ranks.device)
                if state is not None:
                    tensor.copy_(state[kind].narrow(0, slot.offset, slot.size).view(slot.shape))
                ranks.share(tensor)
                if name not in self._vectors:
                    like = self._parameters[name]
                    tensor = distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
                parts[name].copy_(part_here(tensor))

    def _kinds(self) -> dict[str, dict[str, Tensor]]:
        return {"values": self._values, "first_moments": self._first, "second_moments": self._second}

    def _like(self, name: str, part: Tensor) -> DTensor:
        """Returns `part`, this rank's part of a value or moment, as a tensor with the sharding of parameter `name`."""
        like, slot = self._parameters[name], self.slots[name]
        stride = torch.empty(slot.shape, device="meta").stride()
        return DTensor.from_local(part, like.device_mesh, like.placements, shape=torch.Size(slot.shape), stride=stride)


class ShardSnapshots:
    """Gathers whole vectors to rank 0's host while training waits, because no rank has memory for a second copy."""

    def __init__(self, parameters: ShardedParameters, ranks: Ranks) -> None:
        self._parameters, self._ranks = parameters, ranks

    def take(self) -> StepSnapshot:
        """Every rank must call it; only the snapshot of rank 0 has vectors."""
        return StepSnapshot(self._parameters.gather())

    def hold_writes(self) -> None:
        """Does nothing, because the copy is complete when `take` returns."""
