"""The first sentence of the page: what happened, and the best run or that none can be named. Pure."""

from workloads.contract.manifest import Manifest
from workloads.report.failures import causes, counted, progress
from workloads.report.marks import percent
from workloads.results.base_comparison import BaseContrast, RunEnd
from workloads.results.conclusions import Conclusions

SENTENCE_CHARACTERS = 160
"""A sentence of `best_run` that is longer than this is not the headline."""


def headline(manifest: Manifest, conclusions: Conclusions) -> str:
    """What happened, in one short sentence."""
    best = conclusions.best
    reached, found = progress(manifest), causes(manifest)
    if manifest.state == "running":
        return f"Still running: {reached.text}."
    if not reached.graded and found:
        number = "all" if reached.failed == reached.asked else f"{reached.failed:,} of"
        which = f"{number} {counted(reached.asked, 'evaluation')} failed"
        why = "for one reason" if len(found) == 1 else f"for {len(found)} reasons, mostly the first"
        return f"Nothing was graded: {which}, {why}."
    if len(conclusions.runs.runs) == 1 and conclusions.ends:
        return _alone_text(conclusions.ends[0]) or best.sentence
    return best_text(manifest, conclusions)


def _alone_text(end: RunEnd) -> str:
    """Of an experiment with one run: Math 4K (math@25000) against the base at 4,096 tokens: sums accuracy 73.0%, ..."""
    cells = [cell for cell in end.cells if cell.shown and cell.row is not None and cell.accuracy.difference is not None]
    parts = [
        f"{cell.benchmark} accuracy {percent(cell.row.accuracy.value)}, {_compared_words(cell.accuracy)}"
        for cell in cells
        if cell.row is not None
    ]
    if not parts:
        return ""
    return f"{end.label} ({end.model}) against the base at {cells[0].budget_tokens:,} tokens: {'; '.join(parts)}."


def _compared_words(contrast: BaseContrast) -> str:
    assert contrast.difference is not None
    words = {1: "higher", -1: "lower", 0: "not distinguishable"}[contrast.sign]
    return f"{words} ({contrast.difference.estimate * 100:+.1f} points)"


def best_text(manifest: Manifest, conclusions: Conclusions) -> str:
    """Best run: Math 4K (math_default@25000). Or at which budget which run is best, or that none can be named."""
    best = conclusions.best
    if len(best.sentence) <= SENTENCE_CHARACTERS:
        return best.sentence
    missing = ", ".join(item.model or item.run for item in conclusions.runs.missing)
    named = {budget: run for budget, run in best.by_budget.items() if run is not None}
    if not named:
        return f"No run can be named best{f': there is no result of {missing}' if missing else ''}."
    labels = {run.name: run.label for run in manifest.runs}
    if best.run is not None:
        return f"Best run: {labels[best.run]} ({best.model})."
    parts = [
        f"at {budget:,} tokens {labels[run] if run is not None else 'none can be named'}"
        for budget, run in best.by_budget.items()
    ]
    without = f", without a result of {missing}" if missing else ""
    if len(set(best.by_budget.values())) == 1:
        return f"Best run: {labels[next(iter(named.values()))]}{without}."
    return f"Best run: {', '.join(parts)}{without}."


def details(conclusions: Conclusions) -> str:
    """The sentence of `best_run`, where the headline does not hold it; empty when there is nothing to add."""
    best = conclusions.best
    return best.sentence if best.by_budget and len(best.sentence) > SENTENCE_CHARACTERS else ""
