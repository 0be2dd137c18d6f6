"""Computes before a run what the gate can decide: problems, probability to pass, and reasons why it can never pass."""

from collections.abc import Iterable
from dataclasses import dataclass

from workloads.api.evaluation_matrix import evaluation_matrix
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenRequirement
from workloads.results.gate import MIN_PROBLEMS
from workloads.results.gate_simulation import chance_to_pass, fewest_problems
from workloads.words import count_of

DISCORDANCES = (0.05, 0.1, 0.2)
"""Shares of problems on which one output of each model may differ.

In the experiment distill-16-02 the share is at least a tenth.
"""


@dataclass(frozen=True)
class PlannedRequirement:
    """`problems`: number of problems of both models; None if unknown. `chances`: to pass if nothing changed, by
    discordance.

    `never`: why a candidate that is as good as the baseline can never pass, and what to change; or None.
    `unless_better`: a better candidate can pass.
    """

    requirement: FrozenRequirement
    problems: int | None
    outputs_per_problem: int
    chances: tuple[tuple[float, float], ...]
    never: str | None
    unless_better: bool = False

    @property
    def name(self) -> str:
        return f"{self.requirement.benchmark} {self.requirement.metric}"


def planned_gate(frozen: FrozenExperiment) -> tuple[PlannedRequirement, ...]:
    """Returns one for each requirement; () without a gate."""
    if frozen.gate is None:
        return ()
    return tuple(_planned(frozen, item) for item in frozen.gate.require)


def gate_warnings(frozen: FrozenExperiment) -> list[str]:
    """Returns warnings such as: math-500 accuracy can never pass: ..."""
    can = {False: "can never pass", True: "can pass only if the candidate is better than the baseline"}
    return [f"gate: {item.name} {can[item.unless_better]}: {item.never}" for item in planned_gate(frozen) if item.never]


def _planned(frozen: FrozenExperiment, item: FrozenRequirement) -> PlannedRequirement:
    gate = frozen.gate
    assert gate is not None
    benchmark = next(b for b in frozen.benchmarks if b.name == item.benchmark)
    roles = {"candidate": _asked(frozen, gate.candidate, benchmark)}
    if not _elsewhere(gate.baseline):
        roles["baseline"] = _asked(frozen, gate.baseline, benchmark)
    names = {"candidate": gate.candidate, "baseline": gate.baseline}
    sizes: dict[str, int] = {part.name: len(part.problems) for part in benchmark.parts}
    shared = set(sizes).intersection(*roles.values())
    problems = None if "all" in shared else sum(sizes[part] for part in shared)
    outputs = frozen.sampling.n
    never = next((reason for role, parts in roles.items() if (reason := _partial(benchmark, names[role], parts))), None)
    unless_better = False
    if never is None and problems is not None:
        never = _too_few(problems, item.max_drop, gate.alpha, single=outputs == 1)
        unless_better = never is not None and problems >= MIN_PROBLEMS
    chances: tuple[tuple[float, float], ...] = ()
    if never is None and problems is not None:
        chances = tuple(
            (share, chance_to_pass(problems, share, item.max_drop, gate.alpha, outputs)) for share in DISCORDANCES
        )
    return PlannedRequirement(item, problems, outputs, chances, never, unless_better)


def _elsewhere(baseline: str) -> bool:
    """Returns whether the baseline is in another manifest, which is not read here."""
    return "://" in baseline or baseline.partition("#")[0].endswith(".json")


def _asked(frozen: FrozenExperiment, name: str, benchmark: FrozenBenchmark) -> set[str]:
    """Returns the parts of the benchmark that the model is evaluated on.

    `name`: base, run@samples, run@last or a candidate's.
    """
    run, _, which = name.partition("@")
    samples = next((item.checkpoints for item in frozen.runs if item.name == run and item.checkpoints), (0,))
    model = f"{run}@{samples[-1]}" if which == "last" else name
    return {
        want.part.name
        for want in evaluation_matrix(frozen, {})
        if (want.model.id, want.benchmark.name) == (model, benchmark.name)
    }


def _partial(benchmark: FrozenBenchmark, name: str, asked: Iterable[str]) -> str | None:
    """Returns why a comparison of this model covers only a part of the benchmark, and what to change."""
    parts: dict[str, int] = {part.name: len(part.problems) for part in benchmark.parts}
    found = set(asked)
    full = "base: full" if name == "base" else f"confirm: [{name}]"
    if not found:
        return f"{name} is not asked {benchmark.name}; add {full} to the benchmark"
    if "subset" in found:
        return f"limit and problems ask {count_of(parts['subset'], 'problem')}, a part of the benchmark; remove them"
    if found != set(parts):
        some = sum(parts[part] for part in found)
        only = " and ".join(sorted(found))
        share = f"{some} of {count_of(sum(parts.values()), 'problem')}"
        return f"{name} is asked {only} only, {share}; add {full} to the benchmark"
    return None


def _too_few(problems: int, max_drop: float, alpha: float, *, single: bool) -> str | None:
    """Returns text if the problems are too few: even with equal verdicts, a larger drop would remain possible."""
    fewest = fewest_problems(max_drop, alpha, single=single)
    if fewest is None:
        return "no number of problems shows that nothing at all is lost; set maxDrop above 0"
    if problems >= fewest:
        return None
    why = f"at least {MIN_PROBLEMS} are needed" if fewest == MIN_PROBLEMS else f"at least {fewest} are needed for it"
    few = count_of(problems, "problem")
    return f"{few} cannot show that the drop is below {max_drop:.1%}, even if no verdict differs; {why}"
