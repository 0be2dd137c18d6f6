"""An evaluation with outputs that could not be graded is not published as complete."""

from tests.results.made_manifest import evaluation, manifest
from workloads.report.summary import summary
from workloads.report.text import markdown, table_csv
from workloads.results.tables import tables

WHOLE = manifest(evaluation("base", "RRWN"), evaluation("mine@100", "RRWN"))
MADE = manifest(evaluation("base", "RRWN"), evaluation("mine@100", "RReN", asked_again=1))


def test_its_row_says_how_many_are_missing_and_counts_them_nowhere() -> None:
    base, mine = tables(MADE)[0].rows
    assert base.complete
    assert not mine.complete
    assert (mine.accuracy.k, mine.accuracy.n, mine.errors) == (2, 3, 1)
    assert "incomplete: 1 of 4 could not be graded" in markdown(MADE)
    assert table_csv(MADE).splitlines()[2].split(",")[6] == "1"


def test_the_summary_says_so_before_any_figure() -> None:
    said = "1 evaluation could not be graded in full"
    assert any(sentence.startswith(said) for sentence in summary(MADE)[:2])
    assert not any("could not be graded" in sentence for sentence in summary(WHOLE))
