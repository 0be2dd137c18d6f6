"""`potstill gc`: deletes objects of a store that no experiment needs."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from controller.cli.common import DEFAULT_STORE, StorePlace, StoreUrl, stated_store, store_at, wide_console
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.gc.collector import look, restore_parked, sweep
from controller.gc.sweep import Doomed, plan_sweep
from controller.lease import Busy, LeaseLost, acquire_key, release, renew
from workloads.api import store_keys
from workloads.storage.base import Store
from workloads.words import count_of

SHOWN_ROWS = 50
LEAST_SECONDS = 3600.0
"""The smallest accepted value of --older-than."""
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
    """Parses an age such as 90m, 12h, 7d or 2w. Raises typer.BadParameter."""
    found = re.fullmatch(r"(\d+)([smhdw])", age)
    if found is None:
        raise typer.BadParameter(f"invalid age {age!r}: write a number and s, m, h, d or w, such as 7d")
    return float(found[1]) * UNITS[found[2]]


def gc(
    place: StorePlace = None,
    store: StoreUrl = DEFAULT_STORE,
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; without it nothing is changed.")] = False,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", help="Keep objects that are newer than this; with --delete 1h or more.", metavar="AGE"
        ),
    ] = "7d",
    corrupt: Annotated[
        bool,
        typer.Option("--corrupt", help="Also delete results of any age whose files are damaged; reads all of them."),
    ] = False,
    json_to: JsonTo = None,
) -> None:
    """Show the objects that no experiment and no running task needs; with --delete, delete them.

    The folders of experiments stay. Example: potstill gc --store potstill-store --older-than 2w
    """
    store = stated_store(place, store)
    floor_seconds = seconds_of(older_than)
    if delete and floor_seconds < LEAST_SECONDS:
        raise typer.BadParameter(
            f"{older_than} is too short: a program may be between its files and their marker. Use 1h or more",
            param_hint="--older-than",
        )
    if "://" not in store and not Path(store).is_dir():
        raise typer.BadParameter(f"{store} does not exist", param_hint="STORE")
    opened = store_at(store)
    say = print if shows_text(json_to) else _silent
    if not delete:
        _say_parked(opened, say)
        planned = _plan(opened, time.time(), floor_seconds, older_than, corrupt, text=shows_text(json_to))
        write_json(json_to, "gc", planned.body | {"deleted": None})
        return
    opened.probe()
    try:
        with _only_sweeper(opened) as (now_seconds, proceed):
            if restored := restore_parked(opened):
                say(f"restored {count_of(restored, 'object')} of an interrupted sweep")
            text = shows_text(json_to)
            planned = _plan(opened, now_seconds, floor_seconds, older_than, corrupt, text=text, delete=True)
            deleted: dict[str, int] = {"objects": 0, "bytes": 0, "spared": 0}
            if planned.plan:
                done = sweep(opened, planned.plan, lambda: look(opened), now_seconds, floor_seconds, proceed)
                spared = f"; {done.spared} are needed again and were kept" if done.spared else ""
                say(f"deleted {count_of(done.objects, 'object')}, {decimal(done.bytes)}{spared}")
                deleted = {"objects": done.objects, "bytes": done.bytes, "spared": done.spared}
            write_json(json_to, "gc", planned.body | {"deleted": deleted})
    except (Busy, LeaseLost) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(4) from error


@dataclass(frozen=True)
class Planned:
    """`plan`: the objects to delete. `body`: the same for JSON."""

    plan: tuple[Doomed, ...]
    body: dict[str, Any]


def _silent(_text: str) -> None:
    """Replaces print if standard output is for JSON."""


def _plan(
    store: Store,
    now_seconds: float,
    floor_seconds: float,
    older_than: str,
    corrupt: bool,
    *,
    text: bool,
    delete: bool = False,
) -> Planned:
    """Finds the objects to delete. With `text`, prints them."""
    console = wide_console()
    snapshot = look(store, deep=corrupt)
    plan = plan_sweep(snapshot, now_seconds, floor_seconds)
    total_bytes = sum(info.size for info in snapshot.objects)
    items = [
        {
            "unit": None if item.unit is None else str(item.unit),
            "why": item.why,
            "objects": len(item.objects),
            "bytes": item.bytes,
            "age_seconds": int(now_seconds - item.modified),
        }
        for item in plan
    ]
    body = {
        "store": store.url,
        "experiments": len(snapshot.experiments),
        "objects": len(snapshot.objects),
        "bytes": total_bytes,
        "plan": items,
        "corrupt_blobs": sorted(snapshot.corrupt_blobs),
    }
    planned = Planned(plan, body)
    if not text:
        return planned
    held = (
        f"{store.url}: {count_of(len(snapshot.experiments), 'experiment')}, "
        f"{count_of(len(snapshot.objects), 'object')}, {decimal(total_bytes)}"
    )
    if not plan:
        console.print(f"{held}; nothing to delete that is older than {older_than}", markup=False, highlight=False)
        return planned
    console.print(held, markup=False, highlight=False)
    console.print(_table(plan, now_seconds))
    for key in sorted(snapshot.corrupt_blobs):
        print(f"{key} is damaged: put the tokenizer.json of the base there, or generate anything with that base")
    if not delete:
        print(f"{_total(plan)} can be deleted; nothing was deleted: use --delete")
    return planned


def _say_parked(store: Store, say: Callable[[str], None]) -> None:
    parked = sum(1 for _ in store.list(store_keys.parked_key("")))
    if parked:
        say(
            f"a sweep was interrupted or is running: {count_of(parked, 'parked object')}; --delete puts them back first"
        )


@contextmanager
def _only_sweeper(store: Store) -> Iterator[tuple[float, Callable[[], None]]]:
    """Returns the store's time in seconds since 1970, and a function that renews the lease and must be called often.

    Raises Busy, StoreError.
    """
    lease = acquire_key(store, store_keys.SWEEPER, f"gc of {store.url}", datetime.now(UTC))

    def proceed() -> None:
        nonlocal lease
        lease = renew(store, lease, datetime.now(UTC))

    written = store.head(store_keys.SWEEPER)
    yield (time.time() if written is None else written.modified), proceed
    release(store, lease)


def _table(plan: Sequence[Doomed], now_seconds: float) -> Table:
    """Returns the plan as a table, with the largest groups first."""
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
    return f"{count_of(sum(len(doomed.objects) for doomed in plan), 'object')}, {decimal(_bytes(plan))},"


def _bytes(plan: Sequence[Doomed]) -> int:
    return sum(doomed.bytes for doomed in plan)
