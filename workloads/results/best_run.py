"""One sentence that names the best run, or says that none can be named. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from workloads.results.base_comparison import BaseContrast, RunEnd
from workloads.results.run_comparison import RunContrast, RunPair, RunTable
from workloads.words import count_of

Contrasts = list[tuple[RunPair, list[RunContrast]]]

Signs = Mapping[tuple[str, str], int]
"""By (run, other run): 1 significantly ahead, -1 behind, 0 not distinguishable.

Pairs that are not compared are absent.
"""


@dataclass(frozen=True)
class BestRun:
    """`sentence`: for the first line of a report and a terminal.

    `run`, `model`: the best run and its last checkpoint, None if none can be named. `by_budget`: the best run at each
    compared budget in tokens.
    """

    sentence: str
    run: str | None
    model: str | None
    by_budget: Mapping[int, str | None]


def best_run(runs: RunTable, ends: Sequence[RunEnd] = ()) -> BestRun:
    """By accuracy of the last checkpoints: the best run is ahead of each other run, and is behind it on no benchmark.

    A run is ahead of another if it is significantly ahead on some benchmark (`RunContrast.significant`). A single run
    is compared with the base (`ends`).
    """
    if len(runs.runs) < 2:
        return BestRun(_alone(ends), None, None, {})
    if not any(contrast.p is not None for pair in runs.pairs for contrast in pair.contrasts):
        return BestRun(f"No run can be named best: {'; '.join(_gaps(runs)) or 'nothing is asked'}.", None, None, {})
    named = {budget: _best_at(runs, budget) for budget in runs.budgets}
    sentences = [(budget, _sentence(runs, budget, best)) for budget, best in named.items()]
    grouped = [(text, [b for b, _ in group]) for text, group in groupby(sentences, key=lambda item: item[1])]
    sentence = " ".join(_capital(f"{_budgets_text(budgets, runs)}{text}.") for text, budgets in grouped)
    gaps = _gaps(runs)
    if gaps:
        sentence = sentence.replace("est run: ", "est run by what is evaluated: ")
        sentence += f" Not compared: {'; '.join(gaps)}."
    bests = set(named.values())
    run = bests.pop() if len(bests) == 1 and not gaps else None
    return BestRun(sentence, run, _last_of(runs, run) if run else None, named)


def _alone(ends: Sequence[RunEnd]) -> str:
    if not ends:
        return "There is no run to compare."
    end = ends[0]
    cells = [cell.accuracy for cell in end.cells if cell.shown]
    return f"One run, {end.label} ({end.model}), against the base in accuracy: {'; '.join(map(_against_base, cells))}."


def _against_base(contrast: BaseContrast) -> str:
    if contrast.difference is None:
        return f"{contrast.benchmark} {contrast.verdict}"
    found = contrast.difference
    problems = count_of(found.n, "problem")
    return f"{contrast.benchmark} {found.estimate * 100:+.1f} points ({contrast.verdict}, {problems})"


def _gaps(runs: RunTable) -> list[str]:
    """Returns the reasons why last checkpoints cannot be compared, each once."""
    whole = [f"{item.model or item.run} ({item.reason})" for item in runs.missing]
    parts = [c.reason for pair in runs.pairs for c in pair.contrasts if c.which == "last" and c.reason]
    return list(dict.fromkeys([*whole, *parts]))


def _budgets_text(budgets: list[int], runs: RunTable) -> str:
    if len(budgets) == len(runs.budgets):
        return ""
    return f"at {' and '.join(f'{budget:,}' for budget in budgets)} tokens: "


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(runs: RunTable, budget: int, best: str | None) -> str:
    """Returns the sentence without its final stop and its capital letter."""
    contrasts = _accuracy(runs, budget)
    if best is not None:
        return _best_sentence(runs, contrasts, best)
    by_benchmark = {name: found for name in runs.benchmarks if (found := _best_at(runs, budget, name)) is not None}
    if by_benchmark:
        named = ", ".join(f"{runs.runs[found]} on {name}" for name, found in by_benchmark.items())
        others = [name for name in runs.benchmarks if name not in by_benchmark]
        return f"no single run is best: {named}" + (f"; none can be named on {listed(others)}" if others else "")
    if len(contrasts) == 1:
        return f"no run can be named best: {_undecided(*contrasts[0])}"
    signs = _signs(contrasts)
    behind = [run for run in runs.runs if any(signs.get((other, run), 0) > 0 for other in runs.runs)]
    leaders = [run for run in runs.runs if run not in behind and any(run in key for key in signs)]
    if not behind:
        return f"no run can be named best: no two of the {len(leaders)} runs are distinguishable in accuracy"
    return (
        f"no run can be named best: nothing is significantly ahead of {_labels(runs, leaders)}; "
        f"{_labels(runs, behind)} {'is' if len(behind) == 1 else 'are'} behind"
    )


def _labels(runs: RunTable, names: Iterable[str]) -> str:
    return listed([runs.runs[name] for name in names])


def listed(names: Sequence[str]) -> str:
    """Returns text such as: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _best_sentence(runs: RunTable, contrasts: Contrasts, best: str) -> str:
    named = f"best run: {runs.runs[best]} ({_last_of(runs, best)})"
    won = [_turned(c, pair.first == best) for pair, own in contrasts if best in (pair.first, pair.second) for c in own]
    ahead = [(points, c) for points, c in won if c.sign]
    if len(contrasts) == 1:
        pair = contrasts[0][0]
        points, c = ahead[0]
        other = pair.second_label if pair.first == best else pair.first_label
        assert c.difference is not None
        low, high = sorted((points[1], points[2]))
        return (
            f"{named}, ahead of {other} in accuracy on {c.benchmark} by {points[0] * 100:.1f} points "
            f"({low * 100:+.1f} to {high * 100:+.1f}, {count_of(c.difference.n, 'problem')}; they differ by "
            f"{pair.label})"
        )
    span = sorted(points[0] * 100 for points, _ in ahead)
    where = listed(list(dict.fromkeys(c.benchmark for _, c in ahead)))
    return (
        f"{named}, ahead of each of the {len(runs.runs) - 1 - len(runs.missing)} others in accuracy on {where}, "
        f"by {span[0]:.1f} to {span[-1]:.1f} points"
    )


def _turned(contrast: RunContrast, is_first: bool) -> tuple[tuple[float, float, float], RunContrast]:
    """Returns (difference, its adjusted lower and upper bound) of the best run minus the other."""
    found = contrast.difference
    if found is None or contrast.interval is None:
        return (0.0, 0.0, 0.0), contrast
    low, high = contrast.interval
    return ((found.estimate, low, high) if is_first else (-found.estimate, -high, -low)), contrast


def _undecided(pair: RunPair, contrasts: Sequence[RunContrast]) -> str:
    known = [c for c in contrasts if c.difference is not None and c.difference.least_p < 1] or contrasts
    details = ", ".join(
        f"{c.benchmark} {c.difference.estimate * 100:+.1f} points "
        f"({c.interval[0] * 100:+.1f} to {c.interval[1] * 100:+.1f}, {count_of(c.difference.n, 'problem')})"
        for c in known
        if c.difference is not None and c.interval is not None
    )
    return f"{pair.first_label} and {pair.second_label} are not distinguishable in accuracy: {details}"


def _accuracy(runs: RunTable, budget: int, benchmark: str | None = None) -> Contrasts:
    """Returns the contrasts that decide, by pair; pairs without any are left out."""
    made = []
    for pair in runs.pairs:
        own = [
            c
            for c in pair.contrasts
            if (c.which, c.metric, c.budget_tokens) == ("last", "accuracy", budget)
            and benchmark in (None, c.benchmark)
            and c.p is not None
        ]
        if own:
            made.append((pair, own))
    return made


def _signs(contrasts: Contrasts) -> Signs:
    found: dict[tuple[str, str], int] = {}
    for pair, own in contrasts:
        seen = {c.sign for c in own} - {0}
        sign = seen.pop() if len(seen) == 1 else 0
        found[pair.first, pair.second], found[pair.second, pair.first] = sign, -sign
    return found


def _best_at(runs: RunTable, budget: int, benchmark: str | None = None) -> str | None:
    """Returns the run that is ahead of every other run with a result."""
    signs = _signs(_accuracy(runs, budget, benchmark))
    absent = {item.run for item in runs.missing}
    present = [run for run in runs.runs if run not in absent]
    return next(
        (run for run in present if all(signs.get((run, other), 0) > 0 for other in present if other != run)), None
    )


def _last_of(runs: RunTable, run: str) -> str:
    """Returns the id of its last checkpoint."""
    for pair in runs.pairs:
        for c in pair.contrasts:
            if c.which == "last" and run in (pair.first, pair.second):
                return c.first_model if pair.first == run else c.second_model
    return run
