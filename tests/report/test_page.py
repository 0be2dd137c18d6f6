"""The page: one complete file, safe against models' texts, and small at distill-16-02's size."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.browser import browser
from tests.report.measure import OPEN_ALL
from tests.report.synthetic import HOSTILE, synthetic
from tests.tools.shared import made_once
from workloads.api.manifest import Manifest
from workloads.report.files import report_files
from workloads.report.output_browser import reading, shortened
from workloads.report.page import page
from workloads.report.summary import summary
from workloads.results.tables import tables
from workloads.storage.base import Store, open_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store((tmp_path_factory.mktemp("report") / "store").as_uri())


@pytest.fixture(scope="module")
def manifest(store: Store) -> Manifest:
    return synthetic(store, characters=200)


@pytest.fixture(scope="module")
def html(manifest: Manifest, store: Store) -> str:
    return page(manifest, reading(manifest, store))


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(html)
    return parser.found


def test_nothing_is_fetched(html: str) -> None:
    found = elements(html)
    assert not [tag for tag, attributes in found if {"src", "srcset", "data"} & attributes.keys()]
    assert all(str(attributes["href"]).startswith("#") for _, attributes in found if "href" in attributes)
    policy = next(a["content"] for t, a in found if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in str(policy)


def test_texts_of_models_and_specs_add_no_element(html: str) -> None:
    found = elements(html)
    assert not [tag for tag, _ in found if tag in ("img", "i", "iframe", "object", "base")]
    assert len([a for tag, a in found if tag == "script" and not a.get("type")]) == 1
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    assert "document.title='owned'" not in html


def test_each_run_finds_the_base_at_its_own_budget(manifest: Manifest) -> None:
    for table in tables(manifest):
        rows = [row for row in table.rows if row.model.kind == "base"]
        assert [row.budget_tokens for row in rows] == [2048, 4096]
        assert len(table.rows) == 2 + 18


def test_the_summary_gives_the_base_on_the_problems_that_differences_are_on(manifest: Manifest) -> None:
    """The base is asked all 500 problems and a checkpoint 100 of them: 48.0% minus 71.0% must not give -7.8 points."""
    said = next(line for line in summary(manifest) if line.startswith("math-500 at 2,048"))
    assert "right on the 100 problems that runs were asked (57" in said


@pytest.mark.long
def test_the_same_manifest_gives_the_same_bytes(manifest: Manifest, store: Store, html: str) -> None:
    assert page(manifest, reading(manifest, store)) == html
    tables = {"tables.csv", "runs.csv", "findings.csv", "samples.csv", "recipes.csv"}
    assert set(report_files(manifest, store)) == {"index.html", "report.md"} | tables


def test_a_long_output_keeps_its_end_where_the_answer_is() -> None:
    cut = shortened("a" * 900 + "answer", 60)
    assert cut.endswith("answer")
    assert "846 characters left out" in cut


@pytest.mark.slow
def test_a_browser_draws_every_plot_and_shows_hostile_outputs_as_text(html: str, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(html)
    with browser(tmp_path / "profile") as shown:
        shown.open(path)
        shown.ask(OPEN_ALL)
        for number in range(html.count('class="plot"')):
            plot = f"document.querySelectorAll('.plot')[{number}]"
            shown.ask(f"({plot}.scrollIntoView(), true)")
            shown.until(f"{plot}.classList.contains('js-plotly-plot')")
        shown.until("document.querySelectorAll('.sides pre.output').length === 2")
        assert HOSTILE[:40] in shown.ask("document.querySelector('.sides pre.output').textContent")
        assert shown.ask("document.title") == "synthetic-16-02: report"
        assert shown.ask("document.querySelectorAll('#detail img, #list img, #detail script').length") == 0
        assert shown.errors == []


@pytest.mark.slow
def test_the_reader_filters_by_verdict(html: str, manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(html)
    last = next(e for e in manifest.evaluations if (e.model, e.benchmark) == ("code_2k@10000", "math-500"))
    judged = next(item.verdicts for item in last.budgets if item.counts.budget == 2048)
    choose = "(() => { const s = document.getElementById('filter'); s.value = 'not completed'; s.dispatchEvent(new Event('change')); return true; })()"
    with browser(tmp_path / "profile") as shown:
        shown.open(path)
        shown.until("document.querySelectorAll('#list li').length === 100")
        shown.ask(choose)
        shown.until(f"document.querySelectorAll('#list li').length === {sum(code in 'rwn' for code in judged)}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 38 evaluations with outputs of about 2,300 tokens each."""
    return made_once(tmp_path_factory, "large-page", write_large) / "index.html"


def write_large(folder: Path) -> None:
    store = open_store((folder / "store").as_uri())
    large = synthetic(store, characters=9000)
    (folder / "index.html").write_text(page(large, reading(large, store)))


@pytest.mark.long
def test_the_page_stays_small_at_the_size_of_the_source_experiment(whole: Path) -> None:
    assert whole.stat().st_size < 6_000_000


@pytest.mark.long
def test_it_opens_within_two_seconds_of_work_to_words_tables_and_the_reader(whole: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as shown:
        shown.looks(1280, 900, "light")
        shown.open(whole)
        shown.until("document.querySelectorAll('#list li').length === 100")
        assert shown.busy_seconds() < 2


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_phone_and_a_laptop_show_it_without_scrolling_sideways(
    html: str, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "index.html"
    path.write_text(html)
    with browser(tmp_path / "profile") as shown:
        shown.looks(width, 844, scheme)
        shown.open(path)
        shown.until("document.querySelectorAll('.sides pre.output').length === 2")
        assert shown.ask("document.documentElement.scrollWidth") <= width
        light = shown.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part > 127)")
        assert light is (scheme == "light")


@pytest.mark.slow
def test_the_reader_puts_the_base_beside_and_says_why(html: str, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(html)
    with browser(tmp_path / "profile") as shown:
        shown.open(path)
        shown.until("document.querySelectorAll('.sides pre.output').length === 2")
        heads = shown.ask("[...document.querySelectorAll('.sides h3')].map((head) => head.textContent).join('|')")
        assert heads == "code_2k@10000|base"
        assert "100 of 100 outputs" in shown.ask("document.getElementById('count').textContent")
        assert "gold" in shown.ask("document.querySelector('.sides dl').textContent")


@pytest.mark.slow
def test_an_evaluation_whose_file_was_damaged_since_is_named_and_the_others_are_shown(
    manifest: Manifest, store: Store, tmp_path: Path
) -> None:
    shutil.copytree(store.url.removeprefix("file://"), tmp_path / "store")
    store = open_store((tmp_path / "store").as_uri())
    damaged, gone = manifest.evaluations[0], manifest.evaluations[4]
    assert damaged.grade is not None
    assert gone.generate is not None
    grades = next(i.key for i in store.list(f"units/grade/{damaged.grade}/attempts/") if i.key.endswith("grades.jsonl"))
    store.put(grades, store.get(grades).replace(b"right", b"wrong", 1))
    outputs = next(i.key for i in store.list(f"units/generate/{gone.generate}/attempts/"))
    store.delete(outputs)
    made = report_files(manifest, store)
    for text in (made["report.md"], made["index.html"]):
        assert f"CorruptFiles: grades.jsonl of marker grades of grade/{damaged.grade[:12]} is not what was" in text
        assert f"CorruptFiles: outputs.jsonl of marker outputs of generate/{gone.generate[:12]} is missing" in text
    assert "2 evaluations failed" in made["index.html"]
    assert "potstill gc STORE --corrupt" in made["report.md"]
