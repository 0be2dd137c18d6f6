"""The page in a real Chromium: hostile text stays text, everything is drawn, and a run moves on it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.accept import accept
from tests.report.browser import Page, browser
from tests.report.measure import CELLS, PAGE_WIDTH, WIDER_CELLS
from tests.ui.server import Site, site
from tests.ui.stores import HOSTILE, LABEL, start_training, tell, two_runs, write
from workloads.api import store_keys
from workloads.storage.base import Store, open_store

pytestmark = pytest.mark.slow
ONE = "/experiments/distill/aaaa0000"
DRAWN = "document.querySelectorAll('.plot.js-plotly-plot .main-svg').length > 4"
READ = "document.querySelectorAll('.sides pre.output').length === 2"
SAFE = "document.querySelectorAll('img, iframe, object, embed, base, main script').length"
ROWS = "[...document.querySelectorAll('#experiments tr')].map((row) => row.innerText.replace(/\\s+/g, ' ').trim())"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two versions of a finished experiment, and a damaged one, whose folder has a hostile name. Tests do not change it."""
    store = open_store((tmp_path_factory.mktemp("ui") / "store").as_uri())
    write(store, two_runs())
    write(store, two_runs("bbbb0000", days=1, seed=7))
    store.put(store_keys.report_prefix("distill", "aaaa0000") + "index.html", REPORT)
    folder = Path(store.url.removeprefix("file://")) / "experiments/<img src=x onerror=alert(1)>/dddd0000"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text("{}")
    return store


REPORT = b"""<!doctype html><title>report</title><p id=told></p><script>
const told = document.getElementById("told");
fetch("/api/experiments").then(() => { told.textContent = "read"; }, () => { told.textContent = "refused"; });
</script>"""
"""A report that tries to read the page's JSON."""


@pytest.fixture(scope="module")
def page(store: Store) -> Iterator[Site]:
    with site(store) as page:
        yield page


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as shown:
        shown.looks(1280, 900, "light")
        yield shown


def opened(shown: Page, address: str, ready: str) -> None:
    shown.errors.clear()
    shown.open(address)
    shown.until(f"location.href === {address!r} && document.readyState === 'complete' && {ready}")


def test_the_list_shows_hostile_names_as_text(shown: Page, page: Site) -> None:
    opened(shown, f"{page.url}/", "document.querySelectorAll('#experiments tr').length === 3")
    rows = shown.ask(ROWS)
    assert rows[0].startswith("<img src=x onerror=alert(1)>@dddd0000 ✗ damaged")
    assert "distill@aaaa0000 first, second ✓ succeeded 4/4 5/5" in rows[1]
    assert rows[2].endswith("seed")
    assert shown.ask(SAFE) == 0
    assert shown.errors == []


def test_an_experiment_is_drawn_without_a_breach_of_the_policy(shown: Page, page: Site) -> None:
    opened(shown, page.url + ONE, f"{DRAWN} && {READ} && document.querySelector('.overview') !== null")
    assert shown.ask("document.title") == "distill@aaaa0000"
    assert LABEL in shown.ask("document.querySelector('#runs tbody').textContent")
    assert HOSTILE in shown.ask("document.querySelector('.sides pre.output').textContent")
    assert HOSTILE in shown.ask("document.getElementById('meta').textContent")
    assert f"{LABEL} first" in shown.ask(
        "[...document.querySelectorAll('.legendtext')].map((e) => e.textContent).join()"
    )
    assert shown.ask(SAFE) == 0
    assert shown.ask("document.querySelectorAll('.legendtext a, .legendtext tspan[style*=bold]').length") == 0
    titles = shown.ask("[...document.querySelectorAll('figcaption')].map((e) => e.textContent)")
    assert titles == ["Training loss against training samples", "sums: accuracy against training samples",
                      "sums: completion against training samples"]  # fmt: skip
    assert shown.ask("document.querySelectorAll('.overview tr.base').length") == 1
    assert shown.errors == []


def test_the_reader_filters_and_goes_by_keys(shown: Page, page: Site) -> None:
    opened(shown, page.url + ONE, READ)
    down = (
        "document.getElementById('list').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}))"
    )
    first = shown.ask("document.querySelector('#detail h3').textContent")
    shown.ask(down)
    shown.until(f"document.querySelector('#detail h3').textContent !== {first!r} && {READ}")
    choose = "(() => { for (const [id, value] of [['model', 'first@100'], ['filter', 'wrong']]) { const s = document.getElementById(id); s.value = value; s.dispatchEvent(new Event('change')); } return true; })()"
    shown.ask(choose)
    shown.until("document.getElementById('count').textContent === '1 of 2 outputs'")


def test_two_experiments_stand_against_each_other(shown: Page, page: Site) -> None:
    address = f"{page.url}/compare?old=distill@bbbb0000&new=distill@aaaa0000"
    shown.errors.clear()
    shown.open(address)
    shown.until(
        f"location.pathname === '/compare' && document.querySelectorAll('#effects tbody tr').length > 4 && {DRAWN}"
    )
    shown.until("document.getElementById('differs').textContent === 'They differ in seed.'")
    assert shown.errors == []


def test_a_stored_report_runs_in_its_own_origin(shown: Page, page: Site) -> None:
    shown.open(f"{page.url}{ONE}/report")
    shown.until("document.getElementById('told')?.textContent === 'refused'")
    assert shown.ask("origin") == "null"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1920])
def test_phones_and_large_screens_show_it_without_scrolling_sideways(
    shown: Page, page: Site, width: int, scheme: str
) -> None:
    shown.looks(width, 844, scheme)
    for address, ready in (
        (f"{page.url}/", "document.querySelectorAll('#experiments tr').length === 3"),
        (page.url + ONE, f"{READ} && document.querySelector('.overview') !== null"),
    ):
        opened(shown, address, ready)
        assert shown.ask(PAGE_WIDTH) <= width
        assert shown.ask(CELLS) > 5
        assert shown.ask(WIDER_CELLS) == []
        light = shown.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part > 127)")
        assert light is (scheme == "light")
    shown.looks(1280, 900, "light")


def test_every_control_has_a_name_and_can_be_reached_by_key(shown: Page, page: Site) -> None:
    opened(shown, f"{page.url}/", "document.querySelectorAll('#experiments tr').length === 3")
    unnamed = "[...document.querySelectorAll('input, select, button, a')].filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).length"
    unreachable = (
        "[...document.querySelectorAll('input, select, button, a[href], .scroll')].filter((e) => e.tabIndex < 0).length"
    )
    assert (shown.ask(unnamed), shown.ask(unreachable)) == (0, 0)
    shown.ask(
        "document.querySelectorAll('#experiments input')[0].click(), document.querySelectorAll('#experiments input')[1].click()"
    )
    shown.ask("document.getElementById('compare').click()")
    shown.until("location.pathname === '/compare' && document.getElementById('differs').textContent !== ''")


def test_a_training_moves_on_the_open_page(shown: Page, tmp_path: Path) -> None:
    store, frozen = open_store((tmp_path / "store").as_uri()), two_runs()
    accept(frozen, store)
    unit = start_training(store, frozen)
    tell(store, unit, 1, 2.5, total=2)
    cells = "[...document.querySelectorAll('#runs tbody tr:first-child > *')].map((e) => e.innerText)"
    with site(store) as page:
        opened(shown, page.url + ONE, f"{cells}.includes('1/2') && {DRAWN.replace('> 4', '> 1')}")
        assert shown.ask("document.getElementById('state').textContent") == "● running"
        shown.ask("window.kept = document.querySelector('#runs tbody tr')")
        tell(store, unit, 2, 1.25, total=2)
        shown.until(f"{cells}.includes('2/2') && {cells}.includes('1.2500')")
        shown.until("document.querySelector('.plot').data[0].y.join() === '2.5,1.25'")
        assert shown.ask("window.kept === document.querySelector('#runs tbody tr')")  # rows change in place
        assert shown.errors == []


def test_an_experiment_that_potstill_runs_goes_to_its_end_on_the_open_list(shown: Page, tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    (tmp_path / "generate.hold").touch()
    with site(store) as page:
        opened(shown, f"{page.url}/", "!document.getElementById('none').hidden")
        command = [sys.executable, "-m", "tests.controller.driver", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                shown.until(f"{ROWS}.some((row) => row.includes('● running 2/2 ') && row.includes(' 0/3 '))")
                (tmp_path / "generate.hold").unlink()
                shown.until(f"{ROWS}.some((row) => row.includes('✓ succeeded 2/2 3/3'))")
            finally:
                process.terminate()
        assert shown.errors == []


def test_the_page_says_that_its_server_has_ended(shown: Page, store: Store) -> None:
    with site(store) as page:
        opened(shown, f"{page.url}/", "document.querySelectorAll('#experiments tr').length === 3")
    shown.until("!document.getElementById('trouble').hidden")
    assert "is potstill ui still running?" in shown.ask("document.getElementById('trouble').textContent")
    assert shown.ask("document.querySelectorAll('#experiments tr').length") == 3
