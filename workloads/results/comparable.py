"""Whether two models can be compared on a benchmark: complete results, the same protocol, the same problems. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from workloads.api.manifest import Manifest, ManifestEvaluation, ManifestModel
from workloads.words import count_of

SHOWN_IDS = 3


@dataclass(frozen=True)
class Side:
    """A model in a manifest."""

    manifest: Manifest
    model: ManifestModel

    def evaluations(self, benchmark: str) -> tuple[ManifestEvaluation, ...]:
        found = self.manifest.evaluations
        return tuple(e for e in found if e.model == self.model.id and e.benchmark == benchmark)


def incomplete(side: Side, benchmark: str, budget_tokens: int) -> Iterable[str]:
    """Yields why this model cannot be compared on the benchmark: a result is missing, failed or not graded."""
    sizes = next((item.parts for item in side.manifest.benchmarks if item.name == benchmark), {})
    name = f"{side.manifest.experiment}/{side.model.id} on {benchmark}"
    found = side.evaluations(benchmark)
    if not found:
        yield f"{name} was not evaluated"
    for evaluation in found:
        at = [b for b in evaluation.budgets if b.counts.budget == budget_tokens]
        if evaluation.state != "done":
            yield f"{name}/{evaluation.part} is {evaluation.state}" + (
                f": {evaluation.reason}" if evaluation.reason else ""
            )
        elif len(evaluation.problems) < (size := sizes.get(evaluation.part, 0)):
            share = f"{len(evaluation.problems)} of its {count_of(size, 'problem')}"
            yield f"{name}/{evaluation.part} has results for {share}"
        elif not at:
            yield f"{name}/{evaluation.part} was not graded at {budget_tokens:,} tokens"
        elif "e" in at[0].verdicts:
            outputs = count_of(at[0].verdicts.count("e"), "output")
            yield f"{name}/{evaluation.part} has {outputs} that could not be graded"


def unlike(candidate: Side, baseline: Side, benchmark: str) -> Iterable[str]:
    """Yields the names of differences between the two protocols.

    Prompts may differ between the base and a trained model.
    """
    for name, ours, theirs in protocol(candidate, baseline, benchmark):
        if ours != theirs:
            yield f"{name} differs: {ours} for the candidate, {theirs} for the baseline"


def protocol(candidate: Side, baseline: Side, benchmark: str) -> Iterable[tuple[str, object, object]]:
    """Yields (name, the candidate's value, the baseline's) of everything that must be equal before two models are
    compared.
    """
    a, b = candidate.manifest, baseline.manifest
    contents = [next(item for item in m.benchmarks if item.name == benchmark) for m in (a, b)]
    yield f"{benchmark}'s content", contents[0].content[:12], contents[1].content[:12]
    yield "the grader", contents[0].grader, contents[1].grader
    for field in ("temperature", "top_p", "n", "seed"):
        yield f"sampling.{field}", getattr(a.sampling, field), getattr(b.sampling, field)
    yield "the largest budget", a.budgets[-1], b.budgets[-1]
    ours, theirs = candidate.evaluations(benchmark), baseline.evaluations(benchmark)
    engines = [[e.engine for e in side if e.engine] for side in (ours, theirs)]
    for field in ("name", "version", "dtype", "gpu"):
        mine, other = (_only(getattr(engine, field) for engine in side) for side in engines)
        yield f"engine.{field}", mine, other
    for flag in sorted({flag for side in engines for engine in side for flag in engine.flags}):
        mine, other = (_only(engine.flags.get(flag) for engine in side) for side in engines)
        yield f"engine.flags.{flag}", mine, other
    yield "the grader's version", _only(e.grader_version for e in ours), _only(e.grader_version for e in theirs)
    yield "the grader's Python", _only(map(_python, ours)), _only(map(_python, theirs))
    if (candidate.model.kind == "base") == (baseline.model.kind == "base"):
        yield "thinking", candidate.model.thinking, baseline.model.thinking
        parts = {e.part: e for e in theirs}
        for part in ours:
            same = parts.get(part.part)
            if same is not None and part.problems == same.problems:
                yield f"the prompts of {benchmark}/{part.part}", _short(part), _short(same)


def _python(evaluation: ManifestEvaluation) -> str:
    """Returns 3.11 of 3.11.7, because the meaning of a program depends on these two numbers."""
    return ".".join((evaluation.grader_python or "unknown").split(".")[:2])


def _short(evaluation: ManifestEvaluation) -> str:
    return (evaluation.prompts_sha256 or "")[:12]


def _only(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values}))


@dataclass(frozen=True)
class ProblemSets:
    """`only_baseline`, `only_candidate`: numbers of problems of only one of the two.

    `reason`: why no comparison is allowed. `partial`: why the result covers a part of the benchmark. Both are None for
    a full one.
    """

    only_baseline: int = 0
    only_candidate: int = 0
    reason: str | None = None
    partial: str | None = None


def problem_sets(candidate: Side, baseline: Side, benchmark: str) -> ProblemSets:
    """Compares the problems of the two. Both must have results on the benchmark.

    Allowed: the same problems, or the problems of one are all among those of the other (the `fast` part of one against
    all problems of the other). Then the difference is about the smaller set, and is partial.
    """
    ours, theirs = ({e.part: set(e.problems) for e in side.evaluations(benchmark)} for side in (candidate, baseline))
    mine, others = (set().union(*parts.values()) for parts in (ours, theirs))
    missing, extra = sorted(others - mine), sorted(mine - others)
    lacks = f"the candidate lacks {len(missing)} of the baseline's {count_of(len(others), 'problem')} ({_ids(missing)})"
    sets = ProblemSets(len(missing), len(extra))
    unequal = [part for part in ours if part in theirs and ours[part] != theirs[part]]
    if not mine & others:
        return replace(sets, reason="the two have no problem in common")
    if (missing and extra) or unequal:
        more = f"the baseline lacks {len(extra)} of the candidate's {len(mine)} ({_ids(extra)})" if extra else ""
        return replace(sets, reason="; ".join(filter(None, [lacks if missing else "", more])))
    return replace(sets, partial=_partial(candidate, baseline, benchmark, len(mine & others)))


def _partial(candidate: Side, baseline: Side, benchmark: str, shared: int) -> str | None:
    """A part of the benchmark is compared if one of the two has a subset, or not every part."""
    for role, side in (("candidate", candidate), ("baseline", baseline)):
        asked = {e.part for e in side.evaluations(benchmark)}
        parts = next(item.parts for item in side.manifest.benchmarks if item.name == benchmark)
        if "subset" in asked:
            return f"the {role} was asked a subset of {count_of(shared, 'problem')} (limit or problems)"
        if not set(parts) <= asked:
            share = f"{shared} of {count_of(sum(parts.values()), 'problem')}"
            return f"the {role} was asked {', '.join(sorted(asked))} only, {share}"
    return None


def _ids(problems: list[str]) -> str:
    return ", ".join(problems[:SHOWN_IDS]) + (", ..." if len(problems) > SHOWN_IDS else "")
