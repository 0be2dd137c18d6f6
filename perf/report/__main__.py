"""How long the report takes to open in Chromium, and pictures of it for the docs.

    python -m perf.report                              a made-up experiment of 16/02's size: 38 evaluations
    python -m perf.report report/index.html --pictures docs/assets/report-quickstart

Prints, per opening: wall seconds from the navigation to the words, the tables and the reader; CPU seconds of the page's
main thread until then; and wall seconds until the plots in view are drawn.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.report.browser import Page, browser
from tests.report.synthetic import synthetic
from workloads.report.output_browser import reading
from workloads.report.page import page
from workloads.storage.base import open_store

READ = "document.readyState === 'complete' && document.querySelectorAll('.sides pre.output').length === 2"
DRAWN = "document.querySelectorAll('.plot.js-plotly-plot').length > 0"
ALL_DRAWN = "[...document.querySelectorAll('.plot')].every((p) => p.closest('details') || p.matches('.js-plotly-plot'))"
CHOOSE = """for (const [id, value] of [["model", "MODEL"], ["filter", "completed beside, not here"]]) {
  const select = document.getElementById(id); select.value = value; select.dispatchEvent(new Event("change")); }"""
DESKTOP, PHONE = (1180, 1000), (390, 844)


def made_up(folder: Path) -> Path:
    """Outputs of about 9,000 characters each: 4,678 of them."""
    store = open_store((folder / "store").as_uri())
    manifest = synthetic(store, characters=9000).model_copy(update={"base_name": "Qwen3-30B-A3B-Base"})
    path = folder / "index.html"
    path.write_text(page(manifest, reading(manifest, store)))
    return path


def opened(path: Path, profile: Path) -> tuple[float, float, float]:
    with browser(profile) as shown:
        shown.looks(*DESKTOP, "light")
        begun = time.perf_counter()
        shown.open(path)
        shown.until(READ)
        read, busy = time.perf_counter() - begun, shown.busy_seconds()
        shown.until("(document.getElementById('plots').scrollIntoView(), true)")
        shown.until(DRAWN)
        return read, busy, time.perf_counter() - begun


def pictures(path: Path, profile: Path, stem: Path, model: str | None) -> None:
    """Five PNGs: words and tables, plots, and the reader on a laptop; words on a phone; plots in the dark."""
    choose = "true" if model is None else CHOOSE.replace("MODEL", model)
    with browser(profile) as shown:
        for name, size, scheme, place, height in (
            ("", DESKTOP, "light", "h1", 900),
            ("-plots", DESKTOP, "light", "#plots", 900),
            ("-reader", DESKTOP, "light", "#outputs", 760),
            ("-dark", DESKTOP, "dark", "#plots", 900),
            ("-phone", PHONE, "light", "h1", 844),
        ):
            _picture(shown, path, size, scheme, place, height, choose, Path(f"{stem}{name}.png"))


def _picture(
    shown: Page, path: Path, size: tuple[int, int], scheme: str, place: str, height: int, choose: str, to: Path
) -> None:
    shown.looks(size[0], 30_000, scheme)
    shown.open(path)
    shown.until(f"{READ} && {ALL_DRAWN}")
    shown.ask(choose)
    top = int(shown.ask(f"document.querySelector('{place}').getBoundingClientRect().top + scrollY"))
    to.write_bytes(shown.picture(max(0, top - 12), height))
    print(f"{to}: {to.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--model", help="Whose outputs the reader's picture shows: those that only the base completed.")
    parser.add_argument("--pictures", type=Path, metavar="STEM")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        path = asked.page.resolve() if asked.page else made_up(folder)
        print(f"{path.stat().st_size / 1e6:.1f} MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        found = [opened(path, folder / f"profile-{number}") for number in range(asked.times)]
        for name, values in zip(("read_wall", "read_cpu", "plots_wall"), zip(*found, strict=True), strict=True):
            print(f"{name}_seconds: median {statistics.median(values):.2f}, of {sorted(round(v, 2) for v in values)}")
        if asked.pictures:
            pictures(path, folder / "profile-pictures", asked.pictures, asked.model)


if __name__ == "__main__":
    main()
