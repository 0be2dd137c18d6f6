"""Manifests of experiments with several runs, made from verdict codes, for tests: the test states every code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.results.made_manifest import ENGINE, counts
from workloads.api.manifest import (
    BudgetVerdicts,
    Manifest,
    ManifestBenchmark,
    ManifestEvaluation,
    ManifestModel,
    ManifestRun,
)
from workloads.api.model import sha256_of
from workloads.api.units import Columns, Lora, Sampling, Template, TrainInputs

BATCH = 50


@dataclass(frozen=True)
class MadeRun:
    """`changes` are fields of TrainInputs. `samples` of each checkpoint, ascending."""

    name: str
    samples: tuple[int, ...]
    budget: int = 4096
    data: str = "math"
    label: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    domain: str | None = None


Codes = Mapping[tuple[str, str, int], str]
"""By (model, benchmark, budget): one code per output."""


def experiment(
    runs: tuple[MadeRun, ...],
    codes: Codes,
    *,
    budgets: tuple[int, ...] = (4096,),
    problems: Mapping[str, int],
    graders: Mapping[str, str] | None = None,
    states: Mapping[tuple[str, str], tuple[str, str | None]] | None = None,
    outputs: int = 1,
    tokens: Mapping[tuple[str, str], tuple[int, ...]] | None = None,
    **changes: object,
) -> Manifest:
    """Returns the manifest of an experiment. A model with codes for fewer problems than the benchmark has is evaluated
    only on the part `fast`: the first problems.

    `states`: state and reason by (model, benchmark) of evaluations without a result. A model without codes and state has
    an evaluation that is done and has no verdicts.
    """
    models = [
        ManifestModel(id="base", kind="base", label="Base", state="done", thinking=False, budget_tokens=budgets[-1])
    ]
    models += [
        ManifestModel(
            id=f"{run.name}@{samples}", kind="checkpoint", run=run.name, label=run.label or run.name, samples=samples,
            step=samples // BATCH, state="done", thinking=True, budget_tokens=run.budget,
        )
        for run in runs
        for samples in run.samples
    ]  # fmt: skip
    fast_sizes = {name: min(len(c) // outputs for (model, b, _), c in codes.items() if b == name) for name in problems}
    stated: dict[str, object] = {
        "experiment": "made",
        "uid8": "0" * 8,
        "spec_sha256": sha256_of(b"spec"),
        "state": "succeeded",
        "base_name": "base",
        "base_content": "hub:base@0",
        "sampling": Sampling() if outputs == 1 else Sampling(n=outputs, temperature=0.7),
        "budgets": budgets,
        "runs": tuple(_run(run) for run in runs),
        "models": tuple(models),
        "benchmarks": tuple(
            ManifestBenchmark(
                name=name,
                content=sha256_of(name.encode()),
                grader=(graders or {}).get(name, "math"),
                problems=size,
                parts={"all": size}
                if fast_sizes[name] == size
                else {"fast": fast_sizes[name], "rest": size - fast_sizes[name]},
            )
            for name, size in problems.items()
        ),
        "evaluations": tuple(
            evaluation
            for model in models
            for name, size in problems.items()
            for evaluation in _evaluations(
                model.id, name, size, fast_sizes[name], codes, budgets, states or {}, outputs, tokens or {}
            )
        ),
    }
    return Manifest.model_validate(stated | changes)


def _run(run: MadeRun) -> ManifestRun:
    stated: dict[str, Any] = {
        "base_content": "hub:base@0", "data_content": sha256_of(run.data.encode()), "columns": Columns(),
        "template": Template(), "samples": run.samples[-1], "batch_size": BATCH, "sequence_tokens": run.budget,
        "overlong": "truncate", "on_short": "fail", "checkpoints": run.samples,
        "lora": Lora(rank=32, alpha=32, target=("attention",)), "learning_rate": 2e-4, "schedule": "cosine",
        "warmup_steps": 0, "weight_decay": 0.0, "gradient_clip": 1.0, "validation_share": 0.0,
        "precision": "bfloat16", "seed": 16,
    }  # fmt: skip
    return ManifestRun(
        name=run.name, label=run.label or run.name, role="run", digest=sha256_of(run.name.encode()), state="done",
        attempts=1, inputs=TrainInputs.model_validate(stated | dict(run.changes)), data_name=run.data,
        domain=run.domain,
    )  # fmt: skip


def _evaluations(
    model: str,
    name: str,
    size: int,
    fast: int,
    codes: Codes,
    budgets: tuple[int, ...],
    states: Mapping[tuple[str, str], tuple[str, str | None]],
    outputs: int,
    tokens: Mapping[tuple[str, str], tuple[int, ...]],
) -> list[ManifestEvaluation]:
    state, reason = states.get((model, name), ("done", None))
    own = {budget: codes[model, name, budget] for budget in budgets if (model, name, budget) in codes}
    asked = len(next(iter(own.values()))) // outputs if own else fast
    cuts = {"all": (0, size)} if size == fast else {"fast": (0, fast), "rest": (fast, size)}
    made = []
    for part, (start, end) in cuts.items():
        if start >= asked:
            continue
        results = {
            "problems": tuple(f"{name}/{i}" for i in range(start, end)),
            "tokens": tokens.get((model, name), (100,) * size * outputs)[start * outputs : end * outputs],
            "finish": "s" * (end - start) * outputs,
            "budgets": tuple(
                BudgetVerdicts(counts=counts(budget, text), verdicts=text)
                for budget, whole in own.items()
                for text in (whole[start * outputs : end * outputs],)
            ),
            "generate": sha256_of(f"generate {model} {name} {part}".encode()),
            "grade": sha256_of(f"grade {model} {name} {part} {own}".encode()),
            "prompts_sha256": "0" * 64,
            "engine": ENGINE,
            "grader_version": "grade-1",
        }
        made.append(
            ManifestEvaluation.model_validate(
                {
                    "model": model, "benchmark": name, "part": part, "state": state, "reason": reason,
                    "outputs_per_problem": outputs, **(results if state == "done" else {}),
                }
            )
        )  # fmt: skip
    return made
