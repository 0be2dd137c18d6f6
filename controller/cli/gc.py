"""`potstill gc`: sweep a store of what nobody needs any more."""

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from controller.cli.common import store_at, wide_console
from controller.gc import look, sweep
from controller.sweep import Doomed, plan_sweep

SHOWN_ROWS = 50
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
REASONS = {
    "unnamed unit": "no experiment names it",
    "unnamed file": "files that no marker names",
    "finished training's state": "resume state of a finished training",
    "corrupt result": "its files are missing or differ: to be done again",
    "unnamed blob": "blobs that no outputs name",
}


def seconds_of(age: str) -> float:
    """90m, 12h, 7d, 2w. Raises typer.BadParameter."""
    found = re.fullmatch(r"(\d+)([smhdw])", age)
    if found is None:
        raise typer.BadParameter(f"{age!r} is no age: write a number and s, m, h, d or w, such as 7d")
    return float(found[1]) * UNITS[found[2]]


def gc(
    store: Annotated[
        str, typer.Argument(envvar="POTSTILL_STORE", help="A directory, or s3://bucket/prefix.", metavar="STORE")
    ],
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; without it nothing is changed.")] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", help="Leave alone what was written since then.", metavar="AGE")
    ] = "7d",
    corrupt: Annotated[
        bool,
        typer.Option("--corrupt", help="Also results whose files are damaged, whatever their age; reads them all."),
    ] = False,
) -> None:
    """Show what no experiment and no running task needs, and with --delete delete it. Experiments' folders stay."""
    floor_seconds, now_seconds = seconds_of(older_than), time.time()
    if "://" not in store and not Path(store).is_dir():
        raise typer.BadParameter(f"{store} is not there", param_hint="STORE")
    opened, console = store_at(store), wide_console()
    if delete:
        opened.probe()
    snapshot = look(opened, deep=corrupt)
    plan = plan_sweep(snapshot, now_seconds, floor_seconds)
    size = decimal(sum(info.size for info in snapshot.objects))
    held = f"{opened.url}: {len(snapshot.experiments)} experiments, {len(snapshot.objects)} objects, {size}"
    if not plan:
        console.print(f"{held}; nothing to sweep that is older than {older_than}", markup=False, highlight=False)
        return
    console.print(held, markup=False, highlight=False)
    console.print(_table(plan, now_seconds))
    if not delete:
        print(f"{_total(plan)} would go; nothing was deleted: --delete does it")
        return
    swept = sweep(opened, plan, lambda: look(opened), now_seconds, floor_seconds)
    spared = f"; {swept.spared} were needed again meanwhile and stay" if swept.spared else ""
    print(f"deleted {swept.objects} objects, {decimal(swept.bytes)}{spared}")


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
