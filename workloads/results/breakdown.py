"""Accuracy by level or subject of the problems, and by suite of tests (MBPP+: base against base and plus).

Levels and subjects come from the package's own benchmarks, because a manifest has none. Suites are in the manifest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workloads.api.manifest import Manifest, ManifestBenchmark
from workloads.benchmarks.load import load
from workloads.benchmarks.model import Problem
from workloads.benchmarks.registry import name_of_content
from workloads.graders.base import Grader
from workloads.graders.registry import GRADERS
from workloads.registry import RegistryError
from workloads.results.run_comparison import graded_by_all
from workloads.results.stats.bounded_mean import clustered_share
from workloads.results.stats.paired import METRICS, problem_codes
from workloads.results.stats.share import Share

FIELDS: Mapping[str, Callable[[Problem], object]] = {"level": lambda p: p.level, "subject": lambda p: p.subject}


@dataclass(frozen=True)
class BreakdownRow:
    """One share for each of the table's groups."""

    model: str
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Breakdown:
    """A table: accuracy of the base and of each run's last checkpoint, by group, on the problems of all of them.

    `by`: level, subject or tests. `groups`: 1 to 5, or names. No difference between the values is tested.
    """

    benchmark: str
    by: str
    budget_tokens: int
    groups: tuple[str, ...]
    rows: tuple[BreakdownRow, ...]


@dataclass(frozen=True)
class Breakdowns:
    """`missing`: what would be needed for the missing tables."""

    tables: tuple[Breakdown, ...]
    missing: tuple[str, ...]


def breakdowns(manifest: Manifest) -> Breakdowns:
    """Returns the tables at the largest budget."""
    tables: list[Breakdown] = []
    missing: list[str] = []
    for benchmark in manifest.benchmarks:
        grader = _grader(benchmark.grader)
        if grader is not None and grader.has_fields:
            found, reason = _by_field(manifest, benchmark)
        elif grader is not None and grader.runs_programs:
            found, reason = _by_suite(manifest, benchmark)
        else:
            continue
        tables += found
        missing += [reason] if reason else []
    return Breakdowns(tuple(tables), tuple(missing))


def _grader(name: str) -> Grader | None:
    """Returns None for a grader that is not installed here, or cannot be loaded."""
    try:
        return GRADERS.get(name)
    except RegistryError:
        return None


def _by_field(manifest: Manifest, benchmark: ManifestBenchmark) -> tuple[list[Breakdown], str | None]:
    problems = _builtin_problems(benchmark)
    if problems is None:
        return [], (
            f"{benchmark.name}: no table by level or subject: a manifest does not hold them, and this benchmark is not "
            "one of the package's own."
        )
    codes = _codes(manifest, benchmark.name)
    shared = graded_by_all(list(codes.values()))
    made = []
    for by, field in FIELDS.items():
        group_of = {p.id: str(field(p)) for p in problems if field(p) is not None}
        groups = tuple(sorted({group_of[p] for p in shared if p in group_of}))
        rows = tuple(
            BreakdownRow(
                model, tuple(_accuracy([own[p] for p in shared if group_of.get(p) == group]) for group in groups)
            )
            for model, own in codes.items()
        )
        if groups:
            made.append(Breakdown(benchmark.name, by, manifest.budgets[-1], groups, rows))
    return made, None


def _builtin_problems(benchmark: ManifestBenchmark) -> tuple[Problem, ...] | None:
    """Returns the problems of a benchmark whose file is one of the registry's; None if it is another file."""
    name = name_of_content(benchmark.content)
    return None if name is None else load(name).problems


def _codes(manifest: Manifest, benchmark: str) -> dict[str, dict[str, str]]:
    """Returns verdicts by problem of the base and of each last checkpoint or candidate that has verdicts."""
    last = {model.run: model.id for model in manifest.models if model.run is not None}
    found = {m: problem_codes(manifest, m, benchmark, manifest.budgets[-1]) for m in ("base", *last.values())}
    return {model: codes for model, codes in found.items() if codes}


def _accuracy(codes: Sequence[str]) -> Share:
    return clustered_share([(sum(c in METRICS["accuracy"] for c in own), len(own)) for own in codes])


def _by_suite(manifest: Manifest, benchmark: ManifestBenchmark) -> tuple[list[Breakdown], str | None]:
    """Returns passed outputs by suite, and by all suites together; an output without an answer passes none."""
    found = {model: _suites(manifest, model, benchmark.name) for model in _codes(manifest, benchmark.name)}
    names = tuple(dict.fromkeys(name for own in found.values() for suites in own.values() for name in suites))
    if len(names) < 2:
        if any(found.values()):
            return [], None
        return [], (
            f"{benchmark.name}: no table by suite of tests: this manifest was made before verdicts by suite were kept; "
            "run `potstill run` or the controller once more to make the manifest again."
        )
    shared = [p for p in next(iter(found.values())) if all(p in own for own in found.values())]
    rows = []
    for model, own in found.items():
        by_suite = [clustered_share([_passed(own[p].get(name, "")) for p in shared]) for name in names]
        rows.append(BreakdownRow(model, (*by_suite, clustered_share([_all_passed(own[p]) for p in shared]))))
    return [Breakdown(benchmark.name, "tests", manifest.budgets[-1], (*names, "all"), tuple(rows))], None


def _suites(manifest: Manifest, model: str, benchmark: str) -> dict[str, dict[str, str]]:
    """Returns by problem and suite: P passed, F not, one letter an output.

    Leaves out problems with an ungraded output.
    """
    found: dict[str, dict[str, str]] = {}
    for e in manifest.evaluations:
        if (e.model, e.benchmark) != (model, benchmark):
            continue
        size = e.outputs_per_problem
        at = next((item for item in e.budgets if item.counts.budget == manifest.budgets[-1]), None)
        for index, problem in enumerate(e.problems if at is not None and at.suites else ()):
            assert at is not None
            own = slice(index * size, (index + 1) * size)
            if "e" not in at.verdicts[own]:
                found[problem] = {name: letters[own] for name, letters in at.suites.items()}
    return found


def _passed(letters: str) -> tuple[int, int]:
    return letters.count("P"), len(letters)


def _all_passed(suites: Mapping[str, str]) -> tuple[int, int]:
    outputs = list(zip(*suites.values(), strict=True))
    return sum(set(letters) == {"P"} for letters in outputs), len(outputs)
