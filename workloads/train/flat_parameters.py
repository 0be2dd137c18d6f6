"""The trained parameters, their gradient and AdamW's moments as flat vectors: one all-reduce, one norm, one copy."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workloads.train.ranks import Ranks
from workloads.train.snapshot import NoSnapshots, Snapshots

ALIGNMENT_ELEMENTS = 32
"""128 bytes of float32: kernels load whole vectors from every parameter."""
OPTIMIZER_CHUNK_ELEMENTS = 1 << 28
"""AdamW's kernels count a tensor's elements in 32 bits."""
BETAS = (0.9, 0.999)
EPSILON = 1e-8
TAIL = 3
"""Elements after the gradient that are summed with it in one all-reduce: the loss sum, the number of ranks that were
asked to end, and the number of ranks that must save a resume state (rank 0 or none).
"""


@dataclass(frozen=True)
class Slot:
    """The position of a parameter in the flat vectors."""

    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(torch.Size(self.shape).numel())


def slots_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Slot], int]:
    """Returns the positions of parameters with these shapes in a flat vector, and its number of elements."""
    slots: dict[str, Slot] = {}
    offset = 0
    for name, shape in shapes.items():
        slots[name] = Slot(offset, shape)
        offset += -(-slots[name].size // ALIGNMENT_ELEMENTS) * ALIGNMENT_ELEMENTS
    return slots, offset


class FlatParameters:
    """Moves the trainable parameters of a model into flat storage: they become views of `values`.

    values, first_moments, second_moments: (P,) float32. gradients: (P,) float32, of which the parameters' .grad are
    views. tail: (3,) float32. reduced: (P + 3,), gradients and tail together, which ranks sum. The padding between
    parameters stays zero.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            assert parameter.dtype == torch.float32, name
        self.slots, offset = slots_of({name: tuple(parameter.shape) for name, parameter in parameters.items()})
        device = next(iter(parameters.values())).device
        self.values = torch.zeros(offset, device=device)
        self.reduced = torch.zeros(offset + TAIL, device=device)
        self.gradients, self.tail = self.reduced[:offset], self.reduced[offset:]
        for name, parameter in parameters.items():
            view = self.view(self.values, name)
            view.copy_(parameter.detach())
            parameter.data = view
            parameter.grad = self.view(self.gradients, name)
        self.first_moments = torch.zeros_like(self.values)
        self.second_moments = torch.zeros_like(self.values)
        chunks = torch.split(self.values, OPTIMIZER_CHUNK_ELEMENTS)
        for chunk, gradient in zip(chunks, torch.split(self.gradients, OPTIMIZER_CHUNK_ELEMENTS), strict=True):
            chunk.grad = gradient
        self._chunks = chunks

    @property
    def state_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.state().values())

    def clear(self) -> None:
        """Call it before a step: gradient and tail become 0."""
        self.reduced.zero_()

    def reduce(self, ranks: Ranks) -> None:
        """Sums gradient and tail over the ranks."""
        ranks.sum(self.reduced)

    def snapshots(self, ranks: Ranks) -> Snapshots | NoSnapshots:
        """Makes snapshots of the vectors for a resumed run; only rank 0 takes them."""
        return Snapshots(self.state()) if ranks.leads else NoSnapshots()

    def view(self, flat: Tensor, name: str) -> Tensor:
        slot = self.slots[name]
        found: Tensor = torch.narrow(flat, 0, slot.offset, slot.size).view(slot.shape)
        return found

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Returns views of a vector with the layout of `values`, by parameter name."""
        return {name: self.view(flat, name) for name in self.slots}

    def clip(self, largest_norm: float) -> Tensor:
        """Scales the gradient down to `largest_norm` (0: does not scale). Returns its norm before, a scalar."""
        norm: Tensor = torch.linalg.vector_norm(self.gradients)
        if largest_norm > 0:
            self.gradients.mul_(torch.clamp(largest_norm / (norm + 1e-6), max=1.0))
        return norm

    def adamw(self, weight_decay: float, steps_taken: int = 0) -> torch.optim.AdamW:
        """Returns AdamW (Loshchilov and Hutter, arXiv 1711.05101) with weight decay on every parameter.

        Its state is `first_moments` and `second_moments`, in place, after `steps_taken` steps.
        """
        optimizer = torch.optim.AdamW(
            list(self._chunks),
            lr=0.0,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=weight_decay,
            fused=self.values.is_cuda,
            foreach=False,
        )
        firsts = torch.split(self.first_moments, OPTIMIZER_CHUNK_ELEMENTS)
        seconds = torch.split(self.second_moments, OPTIMIZER_CHUNK_ELEMENTS)
        for chunk, first, second in zip(self._chunks, firsts, seconds, strict=True):
            step = torch.tensor(float(steps_taken), device=self.values.device if self.values.is_cuda else "cpu")
            optimizer.state[chunk] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        return optimizer

    def state(self) -> dict[str, Tensor]:
        """The vectors that a resumed run needs, by name; not copies."""
        return {"values": self.values, "first_moments": self.first_moments, "second_moments": self.second_moments}

    def restore(self, state: Mapping[str, Tensor] | None, ranks: Ranks) -> None:
        """Sets the vectors of all ranks from rank 0's `state`, None on the others. Raises ValueError like `load`."""
        if state is not None:
            self.load(state)
        for vector in self.state().values():
            ranks.share(vector)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copies the vectors of `state`. Raises ValueError if one is missing or has another size."""
        for name, tensor in self.state().items():
            if name not in state or state[name].shape != tensor.shape:
                raise ValueError(f"resume state: {name} should have shape {tuple(tensor.shape)}")
            tensor.copy_(state[name])
