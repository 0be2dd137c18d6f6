"""The order in which rows are trained: a permutation that depends only on the seed."""

from collections.abc import Sequence
from hashlib import sha256


def permutation(seed: int, purpose: str, lines: Sequence[int]) -> list[int]:
    """Returns positions 0..len-1 of `lines`, ordered by SHA-256 of (seed, purpose, line).

    It uses a hash of the line number and not a generator's shuffle, so that the order is the same with every release of
    every library, and so that dropping rows does not change the order of the others.
    """
    keys = [sha256(f"{seed}/{purpose}/{line}".encode()).digest() for line in lines]
    return sorted(range(len(lines)), key=keys.__getitem__)


def hold_out(seed: int, lines: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """Returns (training, validation) positions, both ascending; at least one row is held out if `share` is positive."""
    if share == 0:
        return list(range(len(lines))), []
    count = max(1, round(share * len(lines)))
    held = set(permutation(seed, "validation", lines)[:count])
    return [index for index in range(len(lines)) if index not in held], sorted(held)


def consumption(seed: int, lines: Sequence[int], samples: int) -> list[int]:
    """Returns the position of each of `samples` samples: whole passes over all rows, each in a different order."""
    order: list[int] = []
    while len(order) < samples and lines:
        order += permutation(seed, f"pass {len(order) // len(lines)}", lines)
    return order[:samples]
