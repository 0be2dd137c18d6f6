"""Manifests from verdict codes, for tests: the base, one run's checkpoint and their evaluations."""

from collections.abc import Sequence

from workloads.api.experiment import FrozenGate, FrozenRequirement
from workloads.api.manifest import (
    BudgetVerdicts,
    Manifest,
    ManifestBenchmark,
    ManifestEvaluation,
    ManifestModel,
    ManifestRun,
)
from workloads.api.model import sha256_of
from workloads.api.records import BudgetCounts
from workloads.api.units import EngineIdentity, Sampling

ENGINE = EngineIdentity(name="vllm", version="0.32.0", dtype="bfloat16", gpu="h200")
BUDGET = 4096


def counts(budget: int, codes: str) -> BudgetCounts:
    return BudgetCounts(
        budget=budget,
        outputs=len(codes),
        completed=sum(c in "RWN" for c in codes),
        right=sum(c in "Rr" for c in codes),
        right_and_completed=codes.count("R"),
        wrong=sum(c in "Ww" for c in codes),
        no_answer=sum(c in "Nn" for c in codes),
        errors=codes.count("e"),
        causes={},
    )


def evaluation(
    model: str, codes: str, part: str = "all", benchmark: str = "math-500", **changes: object
) -> ManifestEvaluation:
    """Problems p0, p1, ... of the part, graded at 4,096 tokens."""
    stated: dict[str, object] = {
        "model": model,
        "benchmark": benchmark,
        "part": part,
        "state": "done",
        "generate": sha256_of(f"{model} {benchmark} {part} {codes}".encode()),
        "grade": sha256_of(f"grade {model} {benchmark} {part} {codes}".encode()),
        "problems": tuple(f"{part}-p{i}" for i in range(len(codes))),
        "tokens": (100,) * len(codes),
        "finish": "s" * len(codes),
        "budgets": (BudgetVerdicts(counts=counts(BUDGET, codes), verdicts=codes),),
        "prompts_sha256": sha256_of(b"prompts of " + (b"base" if model == "base" else b"trained")),
        "engine": ENGINE,
        "grader_version": "grade-1",
        "grader_python": "3.11.7",
    }
    return ManifestEvaluation.model_validate(stated | changes)


def sampled(
    model: str, problems: Sequence[str], part: str = "all", benchmark: str = "math-500", **changes: object
) -> ManifestEvaluation:
    """Several outputs per problem: one string of codes per problem, all of one length."""
    return evaluation(
        model,
        "".join(problems),
        part,
        benchmark,
        problems=tuple(f"{part}-p{i}" for i in range(len(problems))),
        outputs_per_problem=len(problems[0]),
        **changes,
    )


def manifest(*evaluations: ManifestEvaluation, parts: dict[str, int] | None = None, **changes: object) -> Manifest:
    model = ManifestModel(
        id="mine@100", kind="checkpoint", run="mine", label="Mine", samples=100, step=10, state="done",
        content=sha256_of(b"adapter"), thinking=True, budget_tokens=BUDGET,
    )  # fmt: skip
    base = ManifestModel(
        id="base", kind="base", label="Base", state="done", content="hub:base@0", thinking=False, budget_tokens=BUDGET
    )
    run = ManifestRun(name="mine", label="Mine", role="run", digest=sha256_of(b"mine"), state="done", attempts=1)
    names = dict.fromkeys(e.benchmark for e in evaluations)
    asked = [(e.part, len(e.problems)) for e in evaluations]
    sizes = parts or {part: max(size for other, size in asked if other == part) for part, _ in asked} or {"all": 100}
    stated: dict[str, object] = {
        "experiment": "made",
        "uid8": "0" * 8,
        "spec_sha256": sha256_of(b"spec"),
        "state": "succeeded",
        "base_name": "base",
        "base_content": "hub:base@0",
        "sampling": Sampling(),
        "budgets": (BUDGET,),
        "runs": (run,),
        "models": (base, model),
        "benchmarks": tuple(
            ManifestBenchmark(
                name=name, content=sha256_of(name.encode()), grader="math", problems=sum(sizes.values()), parts=sizes
            )
            for name in names
        ),
        "evaluations": evaluations,
    }
    return Manifest.model_validate(stated | changes)


def gate(*requirements: tuple[str, str, float], alpha: float = 0.05) -> FrozenGate:
    require = tuple(
        FrozenRequirement.model_validate({"benchmark": b, "metric": m, "max_drop": d}) for b, m, d in requirements
    )
    return FrozenGate(candidate="mine@last", baseline="base", require=require, alpha=alpha, budget_tokens=BUDGET)
