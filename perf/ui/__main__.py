"""How long the page of `potstill ui` takes to open on a store of 50 experiments, and pictures of it for the docs.

    python -m perf.ui                                      50 experiments of 16/02's size, 3 of which run
    python -m perf.ui --count 200
    python -m perf.ui --store STORE NAME@VERSION --pictures docs/assets/ui   pictures of a store that is there

Prints wall seconds from the start of the command to its address, and from the navigation until a page shows everything;
with CPU seconds of the page's main thread and of the server, which do not depend on what else the machine does. The
server's include what it loads in the background after the first list, and what it reads again.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.accept import accept
from tests.controller.experiments import experiment, run
from tests.report.browser import Page, browser
from tests.report.synthetic import synthetic
from tests.ui.stores import start_training, tell
from workloads.api import store_keys
from workloads.report.output_browser import reading
from workloads.report.page import page
from workloads.storage.base import Store, open_store

RUNNING = 3
LISTED = "document.querySelectorAll('#experiments tr').length"
DRAWN = "document.querySelectorAll('.plot.js-plotly-plot').length > 0"
READ = "document.querySelectorAll('.sides pre.output').length === 2"
DESKTOP, PHONE = (1180, 900), (390, 844)


def write_store(store: Store, count: int) -> None:
    """Experiments of four runs. Each has the same manifest of 38 evaluations, and the same report of 4 MB."""
    manifest = synthetic(store, characters=2000)
    report = page(manifest, reading(manifest, store)).encode()
    now = datetime.now(UTC)
    for number in range(count):
        runs = tuple(run(name, (5000, 10000, 15000, 20000, 25000), seed=number) for name in "abcd")
        frozen = experiment(runs, name=f"experiment-{number // 2:03}", uid8=f"{number:08x}")
        frozen = frozen.model_copy(update={"accepted": now - timedelta(hours=number)})
        accept(frozen, store)
        if number < RUNNING:
            tell(store, start_training(store, frozen), 100, 0.75, total=500)
            continue
        own = manifest.model_copy(update={"experiment": frozen.name, "uid8": frozen.uid8})
        store.put(store_keys.manifest_key(frozen.name, frozen.uid8), own.to_json())
        store.put(store_keys.report_prefix(frozen.name, frozen.uid8) + "index.html", report)


@contextmanager
def served(store: str) -> Iterator[tuple[str, float, int]]:
    """The address of `potstill ui`, how many seconds it took to print it, and its process."""
    command = [sys.executable, "-P", "-m", "controller.cli", "ui", store, "--port", "0"]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"http://\S+", process.stdout.readline())
            assert found is not None, "the command printed no address"
            yield found[0], time.perf_counter() - begun, process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def opened(shown: Page, address: str, ready: str) -> tuple[float, float]:
    """Wall seconds until `ready`, and CPU seconds of the page's main thread."""
    shown.open("about:blank")
    shown.until("location.href === 'about:blank'")
    begun = time.perf_counter()
    shown.open(address)
    shown.until(f"location.href !== 'about:blank' && {ready}")
    return time.perf_counter() - begun, shown.busy_seconds()


def measure(count: int, folder: Path) -> None:
    store = open_store((folder / "store").as_uri())
    write_store(store, count)
    with served(store.url) as (address, start, pid), browser(folder / "profile") as shown:
        print(f"start of the command to its address: {start:.2f} s")
        for name, where, ready in (
            (f"first page, {count} experiments", address, f"{LISTED} === {count}"),
            (f"second page, {count} experiments", address, f"{LISTED} === {count}"),
            ("one experiment with curves", f"{address}experiments/experiment-000/00000000", DRAWN),
            ("the list again", address, f"{LISTED} === {count}"),
        ):
            before = cpu_seconds(pid)
            wall, busy = opened(shown, where, ready)
            server = cpu_seconds(pid) - before
            print(f"{name}: {wall:.2f} s; CPU {busy:.2f} s in the page, {server:.2f} s in the server")


def pictures(store: str, named: str, stem: Path, folder: Path, only: list[str]) -> None:
    """PNGs of the list, one experiment's progress and curves, its outputs, and the same in the dark on a phone."""
    name, _, version = named.rpartition("@")
    with served(store) as (address, _, _), browser(folder / "profile") as shown:
        one = f"{address}experiments/{name}/{version}"
        for suffix, size, scheme, where, ready, place, height in (
            ("-list", DESKTOP, "light", address, f"{LISTED} > 0", "body", 420),
            ("-experiment", DESKTOP, "light", one, DRAWN, "body", 900),
            ("-dark", DESKTOP, "dark", one, DRAWN, "#result", 480),
            ("-outputs", DESKTOP, "light", one, READ, "#outputs", 700),
            ("-phone", PHONE, "dark", one, DRAWN, "body", 844),
        ):
            if only and suffix.removeprefix("-") not in only:
                continue
            shown.looks(*size, scheme)
            opened(shown, where, ready)
            top = f"Math.round(document.querySelector({place!r}).getBoundingClientRect().top + scrollY)"
            settled, deadline = None, time.monotonic() + 30
            while (
                settled != (now := shown.ask("document.documentElement.scrollHeight")) and time.monotonic() < deadline
            ):
                settled = now
                time.sleep(1.5)
            path = stem.with_name(f"{stem.name}{suffix}.png")
            path.write_bytes(shown.picture(max(0, shown.ask(top) - 8), height))
            print(path, path.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", help="NAME@VERSION of the pictures")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--store")
    parser.add_argument("--pictures", type=Path, metavar="STEM")
    parser.add_argument("--only", action="append", help="list, experiment, dark, outputs or phone; can be given again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.pictures is None:
            measure(given.count, Path(folder))
        else:
            pictures(given.store, given.experiment, given.pictures, Path(folder), given.only or [])


if __name__ == "__main__":
    main()
