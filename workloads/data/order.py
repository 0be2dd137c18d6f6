"""Which row is consumed when: a permutation that depends on the seed and nothing else."""

from collections.abc import Sequence
from hashlib import sha256


def permutation(seed: int, purpose: str, lines: Sequence[int]) -> list[int]:
    """Positions 0..len-1 of `lines`, ordered by SHA-256 of (seed, purpose, line).

    A hash of the line number rather than a generator's shuffle: the same on every release of every library, and
    dropping rows leaves the order of the others as it was.
    """
    keys = [sha256(f"{seed}/{purpose}/{line}".encode()).digest() for line in lines]
    return sorted(range(len(lines)), key=keys.__getitem__)


def hold_out(seed: int, lines: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """(training, validation) positions, both ascending; at least one row is held out when `share` is positive."""
    if share == 0:
        return list(range(len(lines))), []
    count = max(1, round(share * len(lines)))
    held = set(permutation(seed, "validation", lines)[:count])
    return [index for index in range(len(lines)) if index not in held], sorted(held)


def consumption(seed: int, lines: Sequence[int], samples: int) -> list[int]:
    """The position consumed by each of `samples` samples: whole passes over all rows, each in an order of its own."""
    order: list[int] = []
    while len(order) < samples and lines:
        order += permutation(seed, f"pass {len(order) // len(lines)}", lines)
    return order[:samples]
