"""Frozen experiments for the planner's tests, built from a few arguments."""

from datetime import UTC, datetime

from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenPart, FrozenRun, Limits
from workloads.api.model import sha256_of
from workloads.api.tasks import FileSource, ModelSource
from workloads.api.units import (
    Columns,
    EngineIdentity,
    ExternalInputs,
    Lora,
    Prompting,
    Sampling,
    Template,
    TrainInputs,
)

START = datetime(2026, 2, 16, 9, 0, tzinfo=UTC)


def run(name: str, checkpoints: tuple[int, ...], seed: int = 16) -> FrozenRun:
    """A LoRA run. Runs with different names have different inputs unless their data and seed are equal."""
    inputs = TrainInputs(
        base_content="sha256:" + sha256_of(b"base"),
        data_content=sha256_of(name.encode()),
        columns=Columns(),
        template=Template(),
        samples=checkpoints[-1],
        batch_size=50,
        sequence_tokens=4096,
        overlong="truncate",
        on_short="fail",
        checkpoints=checkpoints,
        lora=Lora(rank=32, alpha=32, target=("attention",)),
        learning_rate=2e-4,
        schedule="cosine",
        warmup_steps=0,
        weight_decay=0,
        gradient_clip=1,
        validation_share=0,
        precision="float32",
        seed=seed,
    )
    return FrozenRun(
        name=name,
        label=name,
        data=name,
        inputs=inputs,
        data_source=FileSource(location=f"/data/{name}.jsonl", sha256=inputs.data_content),
        checkpoints=checkpoints,
        budget_tokens=4096,
    )


def external(name: str, checkpoints: tuple[int, ...], *, published: bool = False, candidate: bool = False) -> FrozenRun:
    return FrozenRun(
        name=name,
        label=name,
        role="candidate" if candidate else "run",
        inputs=ExternalInputs(base_content="sha256:" + sha256_of(b"base"), source=f"/adapters/{name}"),
        location=None if published else f"/adapters/{name}",
        published=published,
        checkpoints=checkpoints,
        budget_tokens=4096,
    )


def benchmark(name: str, runs: tuple[FrozenRun, ...], *, base_full: bool = True) -> FrozenBenchmark:
    fast = FrozenPart(name="fast", problems=("p0", "p1"))
    rest = FrozenPart(name="rest", problems=("p2", "p3", "p4"))
    return FrozenBenchmark(
        name=name,
        source=FileSource(location=f"/benchmarks/{name}.jsonl", sha256=sha256_of(name.encode())),
        grader="math",
        completion="boxed",
        parts=(fast, rest),
        checkpoint_parts=("fast",),
        base_parts=("fast", "rest") if base_full else ("fast",),
        trained_prompting={run.name: Prompting(template=Template()) for run in runs},
        base_prompting=Prompting(template=Template(name="plain")),
    )


def experiment(
    runs: tuple[FrozenRun, ...],
    benchmarks: tuple[str, ...] = ("math-500", "mbpp-plus"),
    *,
    name: str = "distill",
    uid8: str = "0016feb2",
    limits: Limits | None = None,
    base_full: bool = True,
) -> FrozenExperiment:
    return FrozenExperiment(
        name=name,
        uid8=uid8,
        accepted=START,
        spec_sha256=sha256_of(b"spec"),
        base=ModelSource(location="/models/base", content="sha256:" + sha256_of(b"base")),
        base_name="base",
        runs=runs,
        benchmarks=tuple(benchmark(one, runs, base_full=base_full) for one in benchmarks),
        sampling=Sampling(),
        budgets=(2048, 4096),
        engine=EngineIdentity(name="transformers", version="1", dtype="float32"),
        limits=limits or Limits(),
    )


def experiment_16_02(limits: Limits | None = None) -> FrozenExperiment:
    """4 runs, 18 checkpoints, 36 evaluations of checkpoints and 2 of the base (in two parts each)."""
    long, short = tuple(range(5000, 25001, 5000)), tuple(range(2500, 10001, 2500))
    runs = (run("math_default", long), run("math_2k", short), run("code_default", long), run("code_2k", short))
    return experiment(runs, name="distill-16-02", limits=limits)
