"""Caveats of the sentence on the best run: benchmarks on which a run is below the base, and empty outputs. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from workloads.api.manifest import Manifest
from workloads.results.base_comparison import EndCell, RunEnd

LEAST_EMPTY = 0.1
"""Empty outputs are reported from this share of a benchmark's outputs on."""
MOST_NAMED = 3
"""At most this many runs are named."""


def caveats(manifest: Manifest, ends: Sequence[RunEnd], best: Mapping[int, str | None]) -> tuple[str, ...]:
    """Returns sentences. `ends` must have verdicts; `best`: the best run by budget, as in `BestRun.by_budget`."""
    return (*_losses(ends, best), *_empty(manifest, ends))


def _losses(ends: Sequence[RunEnd], best: Mapping[int, str | None]) -> Iterator[str]:
    """Yields runs that are significantly below the base on a benchmark: best runs, and runs that are above it on
    another.

    A single run is left out, because its sentence has every benchmark.
    """
    if len(ends) < 2:
        return
    named = set(best.values())
    found = []
    for end in ends:
        cells = [cell for cell in end.cells if cell.shown]
        gains, losses = ([cell for cell in cells if cell.accuracy.sign == sign] for sign in (1, -1))
        if losses and (gains or end.run in named):
            above = f"is above the base on {_listed(gains)} and " if gains else "is "
            found.append(f"{end.label} ({end.model}) {above}below {'it' if gains else 'the base'} on {_listed(losses)}")
    yield from (f"{text}." for text in found[:MOST_NAMED])
    if len(found) > MOST_NAMED:
        yield f"{len(found) - MOST_NAMED} more runs are below the base on a benchmark: see the first table."


def _listed(cells: Sequence[EndCell]) -> str:
    """Returns text such as: sums (+50.0 points) and lists (-20.0 points)."""
    parts = [
        f"{cell.benchmark} ({cell.accuracy.difference.estimate * 100:+.1f} points)"
        for cell in cells
        if cell.accuracy.difference is not None
    ]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _empty(manifest: Manifest, ends: Sequence[RunEnd]) -> Iterator[str]:
    """Yields sentences for the base, then for last checkpoints."""
    models = {"base": "The base"} | {end.model: f"{end.label} ({end.model})" for end in ends}
    found = []
    for model, label in models.items():
        shares = [
            f"{empty / outputs:.0%} on {benchmark.name} ({empty:,}/{outputs:,})"
            for benchmark in manifest.benchmarks
            for empty, outputs in [_count_empty(manifest, model, benchmark.name)]
            if outputs and empty / outputs >= LEAST_EMPTY
        ]
        if shares:
            found.append(f"{label} has empty outputs: {', '.join(shares)}.")
    yield from found[:MOST_NAMED]
    if len(found) > MOST_NAMED:
        yield f"{len(found) - MOST_NAMED} more last checkpoints have empty outputs."


def _count_empty(manifest: Manifest, model: str, benchmark: str) -> tuple[int, int]:
    """Returns (outputs that ended with their first token, all outputs). (0, 0) if the manifest has no lengths."""
    own = [e for e in manifest.evaluations if (e.model, e.benchmark) == (model, benchmark) and e.tokens]
    empty = sum(tokens <= 1 and finish == "s" for e in own for tokens, finish in zip(e.tokens, e.finish, strict=False))
    return empty, sum(len(e.tokens) for e in own)
