"""The number of samples of each part of a mixture, and their order. Pure."""

from collections.abc import Sequence


def allocate(samples: int, weights: Sequence[float]) -> list[int]:
    """Divides `samples` in proportion to `weights` into integers.

    The largest remainders are rounded up (the first of equals).
    """
    total = sum(weights)
    exact = [samples * weight / total for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda index: (counts[index] - exact[index], index))
    for index in by_remainder[: samples - sum(counts)]:
        counts[index] += 1
    return counts


def interleave(orders: Sequence[Sequence[int]]) -> list[int]:
    """Merges orders so that every stretch has its share of each of `orders`."""
    placed = [
        ((position + 0.5) / len(order), part, index)
        for part, order in enumerate(orders)
        for position, index in enumerate(order)
    ]
    return [index for _, _, index in sorted(placed)]
