"""The folder that a pod's three containers share: orders in, outcomes out, one file of each per group member.

`execute_folder` is the container that runs hostile code: it has access to this folder only. Its results are treated as
hostile: see `outcomes`. An order without a readable outcome counts as not executed.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from workloads.grade.outcomes import OutcomeFile, write_outcomes
from workloads.sandbox.order import Lost, Order, Outcome, order_from
from workloads.sandbox.pool import Unsupported, run_all, sandbox_layers
from workloads.sandbox.unsandboxed import LAYERS as LAYERS_WITHOUT
from workloads.sandbox.unsandboxed import run_unsandboxed

ORDERS, OUTCOMES, LAYERS = "orders", "outcomes", "layers.json"
LONGEST_LAYERS, MOST_LAYERS = 10_000, 30


@dataclass(frozen=True)
class Executed:
    """Outcomes by order key, and the layers of isolation that were active."""

    outcomes: OutcomeFile
    layers: tuple[str, ...]


def write_orders(work: Path, name: str, orders: Iterable[Order]) -> None:
    folder = work / ORDERS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(order.to_json() + "\n" for order in orders))


def execute_folder(work: Path, workers: int) -> int:
    """Runs every order under `work`/orders. Returns exit code 0 even if programs failed, 10 if there is no sandbox."""
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
        write_outcomes(work / OUTCOMES / file.name, _with_losses_logged(run_all(orders, workers)))
    return 0


def _with_losses_logged(outcomes: Iterable[Outcome | Lost]) -> Iterator[Outcome | Lost]:
    for outcome in outcomes:
        if isinstance(outcome, Lost):
            sys.stderr.write(f"{outcome.key}: the sandbox was lost {outcome.tries} times: {outcome.reason}\n")
        yield outcome


def read_outcomes(work: Path, name: str, orders: Iterable[Order]) -> Executed:
    """Returns the outcomes that a container with hostile code left. They show only what some program returned."""
    return Executed(OutcomeFile(work / OUTCOMES / f"{name}.jsonl", orders), _layers(work / LAYERS))


def _layers(path: Path) -> tuple[str, ...]:
    """Does not open links or pipes, with which hostile code could have replaced the file, and reads a limited size."""
    if path.is_symlink() or not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            layers = json.loads(file.read(LONGEST_LAYERS))
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(str(layer)[:100] for layer in layers[:MOST_LAYERS]) if isinstance(layers, list) else ()


def execute_here(
    orders: Sequence[Order],
    workers: int,
    folder: Path,
    ended: Callable[[str], None] = lambda _: None,
    *,
    allow_unsandboxed: bool,
) -> Executed:
    """Runs on one machine: the same sandbox, without the containers around it. Raises Unsupported if there is none.

    `folder`: empty; it must exist until the outcomes are read. `ended` gets each order's key when it has ended. An
    exception from it stops the execution.
    """
    if not orders:
        return Executed(OutcomeFile(folder / OUTCOMES, ()), ())
    layers = _layers_here(allow_unsandboxed=allow_unsandboxed)
    if layers == LAYERS_WITHOUT:
        write_outcomes(folder / OUTCOMES, _counted(map(run_unsandboxed, orders), ended))
    else:
        with closing(run_all(orders, workers)) as outcomes:
            write_outcomes(folder / OUTCOMES, _counted(outcomes, ended))
    return Executed(OutcomeFile(folder / OUTCOMES, orders), layers)


def _counted(outcomes: Iterable[Outcome | Lost], ended: Callable[[str], None]) -> Iterator[Outcome | Lost]:
    for outcome in outcomes:
        yield outcome
        ended(outcome.key)


def _layers_here(*, allow_unsandboxed: bool) -> tuple[str, ...]:
    try:
        return sandbox_layers()
    except Unsupported:
        if not allow_unsandboxed:
            raise
        return LAYERS_WITHOUT
