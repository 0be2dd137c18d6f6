"""`potstill gc`: sweep a store of what nobody needs any more."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from controller.cli.common import store_at, wide_console
from controller.gc.collector import look, restore_parked, sweep
from controller.gc.sweep import Doomed, plan_sweep
from controller.lease import Busy, LeaseLost, acquire_key, release, renew
from workloads.api import store_keys
from workloads.storage.base import Store

SHOWN_ROWS = 50
LEAST_SECONDS = 3600.0
"""The least age by which anything is deleted."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
REASONS = {
    "unnamed unit": "no experiment names it",
    "unnamed file": "files that no marker names",
    "finished training's state": "resume state of a finished training",
    "corrupt result": "its files are missing or differ: to be done again",
    "unnamed blob": "blobs that no outputs name",
    "corrupt blob": "damaged blobs: graders cannot read the outputs that name them",
    "old notice": "notices of attempts: hints, without which commits are seen minutes later",
}


def seconds_of(age: str) -> float:
    """90m, 12h, 7d, 2w. Raises typer.BadParameter."""
    found = re.fullmatch(r"(\d+)([smhdw])", age)
    if found is None:
        raise typer.BadParameter(f"invalid age {age!r}: write a number and s, m, h, d or w, such as 7d")
    return float(found[1]) * UNITS[found[2]]


def gc(
    store: Annotated[
        str, typer.Argument(envvar="POTSTILL_STORE", help="A directory, or s3://bucket/prefix.", metavar="STORE")
    ],
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; without it nothing is changed.")] = False,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", help="Leave alone what was written since then; with --delete 1h or more.", metavar="AGE"
        ),
    ] = "7d",
    corrupt: Annotated[
        bool,
        typer.Option("--corrupt", help="Also results whose files are damaged, whatever their age; reads them all."),
    ] = False,
) -> None:
    """Show what no experiment and no running task needs, and with --delete delete it. Experiments' folders stay."""
    floor_seconds = seconds_of(older_than)
    if delete and floor_seconds < LEAST_SECONDS:
        raise typer.BadParameter(
            f"{older_than} is too short: a program may be between its files and their marker. Use 1h or more",
            param_hint="--older-than",
        )
    if "://" not in store and not Path(store).is_dir():
        raise typer.BadParameter(f"{store} is not there", param_hint="STORE")
    opened = store_at(store)
    if not delete:
        _say_parked(opened)
        _plan(opened, time.time(), floor_seconds, older_than, corrupt)
        return
    opened.probe()
    try:
        with _only_sweeper(opened) as (now_seconds, proceed):
            if restored := restore_parked(opened):
                print(f"put back {restored} objects that a sweep had parked before it was cut off")
            plan = _plan(opened, now_seconds, floor_seconds, older_than, corrupt, delete=True)
            if plan:
                swept = sweep(opened, plan, lambda: look(opened), now_seconds, floor_seconds, proceed)
                spared = f"; {swept.spared} were needed again meanwhile and stay" if swept.spared else ""
                print(f"deleted {swept.objects} objects, {decimal(swept.bytes)}{spared}")
    except (Busy, LeaseLost) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(4) from error


def _plan(
    store: Store, now_seconds: float, floor_seconds: float, older_than: str, corrupt: bool, *, delete: bool = False
) -> tuple[Doomed, ...]:
    """What is to go, shown to the user."""
    console = wide_console()
    snapshot = look(store, deep=corrupt)
    plan = plan_sweep(snapshot, now_seconds, floor_seconds)
    size = decimal(sum(info.size for info in snapshot.objects))
    held = f"{store.url}: {len(snapshot.experiments)} experiments, {len(snapshot.objects)} objects, {size}"
    if not plan:
        console.print(f"{held}; nothing to sweep that is older than {older_than}", markup=False, highlight=False)
        return plan
    console.print(held, markup=False, highlight=False)
    console.print(_table(plan, now_seconds))
    for key in sorted(snapshot.corrupt_blobs):
        print(f"{key} is damaged: put the tokenizer.json of the base there, or generate anything with that base")
    if not delete:
        print(f"{_total(plan)} would go; nothing was deleted: --delete does it")
    return plan


def _say_parked(store: Store) -> None:
    parked = sum(1 for _ in store.list(store_keys.parked_key("")))
    if parked:
        print(f"a sweep was cut off or is at work: {parked} objects are parked; --delete puts them back first")


@contextmanager
def _only_sweeper(store: Store) -> Iterator[tuple[float, Callable[[], None]]]:
    """The time by the store's clock in seconds since 1970, and what is to be called often. Raises Busy, StoreError."""
    lease = acquire_key(store, store_keys.SWEEPER, f"gc of {store.url}", datetime.now(UTC))

    def proceed() -> None:
        nonlocal lease
        lease = renew(store, lease, datetime.now(UTC))

    written = store.head(store_keys.SWEEPER)
    yield (time.time() if written is None else written.modified), proceed
    release(store, lease)


def _table(plan: Sequence[Doomed], now_seconds: float) -> Table:
    """The largest first."""
    table = Table("what", "why", "objects", "size", "last written", box=None, pad_edge=False)
    ordered = sorted(plan, key=lambda doomed: -doomed.bytes)
    for doomed in ordered[:SHOWN_ROWS]:
        age = timedelta(seconds=int(now_seconds - doomed.modified))
        what = "blobs" if doomed.unit is None else str(doomed.unit)
        table.add_row(what, REASONS[doomed.why], str(len(doomed.objects)), decimal(doomed.bytes), f"{age} ago")
    if len(ordered) > SHOWN_ROWS:
        rest = ordered[SHOWN_ROWS:]
        table.add_row(f"and {len(rest)} more", "", str(sum(len(d.objects) for d in rest)), decimal(_bytes(rest)), "")
    return table


def _total(plan: Sequence[Doomed]) -> str:
    return f"{sum(len(doomed.objects) for doomed in plan)} objects, {decimal(_bytes(plan))},"


def _bytes(plan: Sequence[Doomed]) -> int:
    return sum(doomed.bytes for doomed in plan)
