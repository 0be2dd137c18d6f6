"""The folder that a pod's three containers share: orders in, outcomes out, a file of each per group member.

`execute_folder` is the container that runs hostile code: it knows this folder and nothing else. What it leaves is read
back as hostile too: bounded, checked line by line, and an order without a readable outcome was simply not executed.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from workloads.grade.sandbox.order import Order, Outcome, order_from, outcome_from
from workloads.grade.sandbox.pool import Lost, Unsupported, run_all, sandbox_layers
from workloads.grade.sandbox.unsandboxed import LAYERS as LAYERS_WITHOUT
from workloads.grade.sandbox.unsandboxed import run_unsandboxed

ORDERS, OUTCOMES, LAYERS = "orders", "outcomes", "layers.json"
LARGEST_LINE_BYTES = 80 << 20
"""An outcome's line may be this long: a candidate's output is bounded well below."""

logger = logging.getLogger("potstill")


@dataclass(frozen=True)
class Executed:
    """Outcomes by order key, and the layers of isolation that held."""

    outcomes: Mapping[str, Outcome | Lost]
    layers: tuple[str, ...]


def write_orders(work: Path, name: str, orders: Iterable[Order]) -> None:
    folder = work / ORDERS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(order.to_json() + "\n" for order in orders))


def execute_folder(work: Path, workers: int) -> int:
    """Runs every order under `work`/orders; exit code 0 even if programs failed, 10 where there is no sandbox."""
    files = sorted((work / ORDERS).glob("*.jsonl"))
    if not files:
        sys.stderr.write("no orders: no generated program is to be run\n")
        return 0
    try:
        layers = sandbox_layers()
    except Unsupported as e:
        sys.stderr.write(f"{e}\n")
        return 10
    sys.stderr.write(f"layers of isolation: {', '.join(layers)}\n")
    (work / OUTCOMES).mkdir(exist_ok=True)
    (work / LAYERS).write_text(json.dumps(layers))
    for file in files:
        orders = [order_from(json.loads(line)) for line in file.read_text().splitlines()]
        with (work / OUTCOMES / file.name).open("w") as sink:
            for outcome in run_all(orders, workers):
                if isinstance(outcome, Outcome):
                    sink.write(outcome.to_json() + "\n")
                else:
                    sys.stderr.write(f"{outcome.key}: the sandbox was lost twice: {outcome.reason}\n")
    return 0


def read_outcomes(work: Path, name: str) -> Executed:
    """Outcomes that a container with hostile code left; nothing in them is believed but that it is an outcome."""
    found: dict[str, Outcome | Lost] = {}
    path = work / OUTCOMES / f"{name}.jsonl"
    if path.is_symlink() or not path.is_file():
        return Executed({}, ())
    with path.open(encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(LARGEST_LINE_BYTES):
            try:
                outcome = outcome_from(json.loads(line))
            except (ValueError, RecursionError) as e:
                logger.warning("%s: a line that is no outcome: %s", path.name, e)
                continue
            found[outcome.key] = outcome
    return Executed(found, _layers(work / LAYERS))


def _layers(path: Path) -> tuple[str, ...]:
    """What hostile code could have replaced by a link or a pipe is not opened, and not read to its end."""
    if path.is_symlink() or not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            layers = json.loads(file.read(10_000))
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(str(layer)[:100] for layer in layers) if isinstance(layers, list) else ()


def execute_here(
    orders: Sequence[Order], workers: int, ended: Callable[[str], None], *, allow_unsandboxed: bool
) -> Executed:
    """On one machine: the same sandbox, without the containers around it. Raises Unsupported where there is none.

    `ended` is told each order's key when it is over; what it raises ends the execution.
    """
    if not orders:
        return Executed({}, ())
    try:
        layers = sandbox_layers()
    except Unsupported:
        if not allow_unsandboxed:
            raise
        return Executed(_taken(map(run_unsandboxed, orders), ended), LAYERS_WITHOUT)
    with closing(run_all(orders, workers)) as outcomes:
        return Executed(_taken(outcomes, ended), layers)


def _taken(outcomes: Iterable[Outcome | Lost], ended: Callable[[str], None]) -> dict[str, Outcome | Lost]:
    found = {}
    for outcome in outcomes:
        found[outcome.key] = outcome
        ended(outcome.key)
    return found
