"""The first sentence of the page: the state of the experiment, and the best run, or that none can be named. Pure."""

from collections.abc import Sequence

from workloads.api.manifest import Manifest
from workloads.report.failures import FailureCause, causes, progress, shortened
from workloads.results.conclusions import Conclusions
from workloads.words import count_of

SENTENCE_CHARACTERS = 160
"""A sentence of `best_run` that is longer than this is not the headline."""
CAUSE_CHARACTERS = 110
"""Characters of a cause in the headline; the full text is below it."""


def headline(manifest: Manifest, conclusions: Conclusions) -> str:
    """Returns short sentences: progress, the most common cause of failures, the best run, caveats."""
    reached, found = progress(manifest), causes(manifest)
    if manifest.state == "running":
        return f"Still running: {reached.text}.{f' {_failed(found)}' if found else ''}"
    if not found:
        return " ".join([best_text(manifest, conclusions), *conclusions.caveats])
    if all(part.state != "done" for part in manifest.evaluations):
        number = "all" if reached.failed == reached.asked else f"{reached.failed:,} of"
        which = f"{number} {count_of(reached.asked, 'evaluation')} failed"
        why = "" if len(found) == 1 else f", for {len(found)} reasons, mostly"
        return f"Nothing was graded: {which}{why}: {shortened(found[0].text, CAUSE_CHARACTERS)}"
    return " ".join([_failed(found), best_text(manifest, conclusions), *conclusions.caveats])


def _failed(found: Sequence[FailureCause]) -> str:
    """Returns text such as: 1 run (Math 4K) and 12 evaluations failed: CUDA out of memory."""
    text = shortened(found[0].text, CAUSE_CHARACTERS)
    others = f" ({count_of(len(found) - 1, 'other cause')} below)" if len(found) > 1 else ""
    return f"{found[0].where} failed: {text}{others}{'' if text.endswith('.') and not others else '.'}"


def best_text(manifest: Manifest, conclusions: Conclusions) -> str:
    """Returns text such as: Best run: Math 4K (math_default@25000).

    Or names the best run at each budget, or says that none can be named.
    """
    best = conclusions.best
    if len(best.sentence) <= SENTENCE_CHARACTERS or len(conclusions.runs.runs) < 2:
        return best.sentence
    absent = [item.model or item.run for item in conclusions.runs.missing]
    missing = f"{', '.join(absent)} {'has' if len(absent) == 1 else 'have'} no result" if absent else ""
    named = {budget: run for budget, run in best.by_budget.items() if run is not None}
    if not named:
        return f"No run can be named best: {missing or _why_none(conclusions)}."
    labels = {run.name: run.label for run in manifest.runs}
    if best.run is not None:
        return f"Best run: {labels[best.run]} ({best.model})."
    parts = [
        f"at {budget:,} tokens {labels[run] if run is not None else 'none can be named'}"
        for budget, run in best.by_budget.items()
    ]
    without = f"; {missing}" if missing else ""
    if len(set(best.by_budget.values())) == 1:
        return f"Best run: {labels[next(iter(named.values()))]}{without}."
    return f"Best run: {', '.join(parts)}{without}."


def _why_none(conclusions: Conclusions) -> str:
    signs = {
        contrast.sign
        for pair in conclusions.runs.pairs
        for contrast in pair.contrasts
        if (contrast.which, contrast.metric) == ("last", "accuracy")
    }
    if signs <= {0}:
        return "no difference in accuracy between the runs is significant"
    return "none is ahead of all others in accuracy"
