"""Formats a number with its noun, for messages."""


def count_of(number: int, noun: str, plural: str = "") -> str:
    """Returns text such as 1 run, 2 runs, 1,200 samples. `plural`: needed only if it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
