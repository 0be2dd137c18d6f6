"""The file with the outcomes of the sandbox: written as they come, read one at a time, and treated as hostile.

An order asks the sandbox to run one program of a model on one problem's inputs; its outcome says how the program ended
and what it returned (workloads/sandbox/order.py). All outcomes of a benchmark may be gigabytes, so the file is read
once to find the place of each, and an outcome is parsed when it is needed. A program that broke out of its sandbox may
have written the file: links are not followed, a pipe does not block the reader, nothing is read beyond the orders'
limits, and lines that are not outcomes of these orders are skipped. If an order has two outcomes, the first counts.
"""

import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from workloads.sandbox.order import Lost, Order, Outcome, result_from

LONGEST_ESCAPE = 6
"""Bytes that one byte of a program's output may take in a line: \\u0000."""
LINE_BYTES = 1 << 20
"""Bytes of a line in addition to the program's output: the order's key, how it ended, the seconds of each test."""
MOST_BAD_LINES = 10
"""After this many bad lines the file is not read further: a sandbox that works writes none."""

logger = logging.getLogger("potstill")


def largest_line_bytes(order: Order) -> int:
    return LONGEST_ESCAPE * order.limits.output_bytes + LINE_BYTES


def write_outcomes(path: Path, outcomes: Iterable[Outcome | Lost]) -> None:
    with path.open("w", encoding="utf-8") as sink:
        for outcome in outcomes:
            sink.write(outcome.to_json() + "\n")


class OutcomeFile(Mapping[str, Outcome | Lost]):
    """Outcomes by the keys of orders; `Lost` if the sandbox itself failed. Safe for several threads; `close` it.

    `asked_again`: the number of orders that were run a second time, because they failed for a reason outside of the
    program.
    """

    def __init__(self, path: Path, orders: Iterable[Order]) -> None:
        """A missing file, a link, a pipe or a device counts as empty."""
        self._places: dict[str, tuple[int, int]] = {}
        self.asked_again = 0
        self._file = _open_regular(path)
        if self._file is not None:
            self._index(path.name, {order.key: largest_line_bytes(order) for order in orders})

    def _index(self, name: str, allowed: Mapping[str, int]) -> None:
        assert self._file is not None
        bad = position = 0
        longest, bytes_left = max(allowed.values(), default=0), sum(allowed.values())
        with os.fdopen(os.dup(self._file), "rb") as file:
            while len(self._places) < len(allowed) and (line := file.readline(min(longest, bytes_left) + 1)):
                found = _parsed(line)
                bytes_left -= len(line)
                if bytes_left < 0:
                    logger.warning("%s: longer than the outcomes of all its orders may be; the rest is not read", name)
                    break
                if found is None or found.key not in allowed or found.key in self._places:
                    bad += 1
                    logger.warning("%s: skipped a line: not an outcome of an order, or its order has one already", name)
                    if bad == MOST_BAD_LINES:
                        logger.warning("%s: %d such lines; the rest is not read", name, bad)
                        break
                elif len(line) <= allowed[found.key]:  # a longer one counts as missing
                    self._places[found.key] = (position, len(line))
                    self.asked_again += found.tries > 1
                position += len(line)

    def __getitem__(self, key: str) -> Outcome | Lost:
        position, length = self._places[key]
        assert self._file is not None
        found = _parsed(os.pread(self._file, length, position))
        if found is None or found.key != key:
            raise OSError(f"outcomes changed while they were read: {key}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open_regular(path: Path) -> int | None:
    """Returns a file descriptor; None for anything but a regular file in a folder that is not a link."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        file = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    return None


def _parsed(line: bytes) -> Outcome | Lost | None:
    try:
        return result_from(json.loads(line))
    except (ValueError, RecursionError):
        return None
