"""A made-up experiment of distill-16-02's size: 4 runs, 18 checkpoints, 38 evaluations, with outputs and grades in a
store.

Texts are hostile in all places where they could harm a page.
"""

import json
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.results.made_manifest import ENGINE, counts
from workloads.api.grades import Grade
from workloads.api.manifest import (
    BudgetVerdicts,
    LossPoint,
    Manifest,
    ManifestBenchmark,
    ManifestEvaluation,
    ManifestModel,
    ManifestRun,
)
from workloads.api.model import sha256_of
from workloads.api.records import DataStatistics, GradesRecord, Output, OutputsRecord
from workloads.api.units import Columns, Lora, Sampling, Template, TrainInputs, UnitRef
from workloads.storage.base import Store
from workloads.storage.markers import commit_marker

BUDGETS = (2048, 4096)
RUNS = (("math_default", "Math 4K", 4096, 25000, 5000), ("math_2k", "Math 2K", 2048, 10000, 2500),
        ("code_default", "Code 4K", 4096, 25000, 5000), ("code_2k", "Code 2K", 2048, 10000, 2500))  # fmt: skip
SIZES = {"math-500": 500, "mbpp-plus": 378}
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u2028\x00\ud800 {{ 7 * 7 }}"
WORDS = [
    "so",
    "let",
    "us",
    "check",
    "the",
    "next",
    "step",
    "again",
    "therefore",
    "we",
    "compute",
    "and",
    "find",
    "that",
    "wait",
    "it",
    "holds",
    "since",
    "x",
    "equals",
    "y",
]
NUMBERED_WORDS = [f"{word}{number}" for word in WORDS for number in range(100)]


def synthetic(store: Store, *, characters: int, seed: int = 16) -> Manifest:
    """Makes outputs of about `characters` each. The same seed gives the same experiment."""
    rng = random.Random(seed)
    models = [_base(), *(_checkpoint(run, samples) for run in RUNS for samples in range(run[4], run[3] + 1, run[4]))]
    evaluations = [
        _evaluation(store, rng, model.id, name, part, characters)
        for model in models
        for name in SIZES
        for part in (("fast", "rest") if model.kind == "base" else ("fast",))
    ]
    return Manifest(
        experiment="synthetic-16-02",
        uid8="1602" * 2,
        spec_sha256=sha256_of(b"spec"),
        state="succeeded",
        base_name="</title><b>Base",
        base_content="hub:base@0",
        sampling=Sampling(),
        budgets=BUDGETS,
        runs=tuple(_run(rng, run) for run in RUNS),
        models=tuple(models),
        benchmarks=tuple(
            ManifestBenchmark(
                name=name,
                content=sha256_of(name.encode()),
                grader="math" if name == "math-500" else "code",
                problems=size,
                parts={"fast": 100, "rest": size - 100},
            )
            for name, size in SIZES.items()
        ),
        evaluations=tuple(evaluations),
    )


def _base() -> ManifestModel:
    return ManifestModel(
        id="base", kind="base", label="Base", state="done", content="hub:base@0", thinking=False, budget_tokens=4096
    )


def _checkpoint(run: tuple[str, str, int, int, int], samples: int) -> ManifestModel:
    name, label, budget, _, _ = run
    return ManifestModel(
        id=f"{name}@{samples}", kind="checkpoint", run=name, label=label, samples=samples, step=samples // 50,
        state="done", content=sha256_of(f"{name}{samples}".encode()), thinking=True, budget_tokens=budget,
    )  # fmt: skip


def _run(rng: random.Random, run: tuple[str, str, int, int, int]) -> ManifestRun:
    name, label, tokens, samples, every = run
    inputs = TrainInputs(
        base_content="hub:base@0", data_content=sha256_of(name[:4].encode()), columns=Columns(), template=Template(),
        samples=samples, batch_size=50, sequence_tokens=tokens, overlong="drop" if tokens == 2048 else "truncate",
        on_short="fail", checkpoints=tuple(range(every, samples + 1, every)),
        lora=Lora(rank=32, alpha=32, target=("attention", "experts")), learning_rate=2e-4, schedule="cosine",
        warmup_steps=10, weight_decay=0.0, gradient_clip=1.0, validation_share=0.0, precision="bfloat16", seed=16,
    )  # fmt: skip
    lengths = {"p1": 300, "p10": 900, "p50": 4100, "p90": 9000, "p99": 15000, "max": 30000}
    data = DataStatistics(
        rows=100_000, kept=11_000 if tokens == 2048 else 100_000, dropped=89_000 if tokens == 2048 else 0,
        truncated=0 if tokens == 2048 else 50_000, without_supervision=0, consumed=samples, distinct_consumed=samples,
        supervised_tokens=samples * 2000, total_tokens=samples * 2200, length_percentiles=lengths,
        kept_length_percentiles={**lengths, "p50": 1500, "max": tokens}, supervises_think_close=0.5, supervises_end=0.5,
    )  # fmt: skip
    steps = samples // 50
    points = range(1, steps + 1, max(1, steps // 200))
    losses = tuple(
        LossPoint(step=s, samples=s * 50, loss=0.5 + 1 / s + rng.random() / 10, learning_rate=2e-4) for s in points
    )
    return ManifestRun(
        name=name, label=label, role="run", digest=sha256_of(name.encode()), state="done", attempts=1, inputs=inputs,
        data_name=name[:4], data=data, losses=losses, train_seconds=samples / 10, tokens_per_second=22_000.0,
        device="NVIDIA H200", devices=1, versions={"torch": "2.13.0"}, warnings=(f"<b>{HOSTILE[:40]}</b>",),
    )  # fmt: skip


def _evaluation(
    store: Store, rng: random.Random, model: str, benchmark: str, part: str, characters: int
) -> ManifestEvaluation:
    size = 100 if part == "fast" else SIZES[benchmark] - 100
    problems = tuple(f"{benchmark}/{part}/{i}<i>" for i in range(size))
    letters = "RRRRRRRRWN" if model == "base" else "RRRRRWrwnn"
    codes = {BUDGETS[1]: "".join(rng.choice(letters) for _ in problems)}
    codes[BUDGETS[0]] = "".join(code if rng.random() < 0.7 else "n" for code in codes[BUDGETS[1]])
    tokens = [4096 if code in "rwn" else rng.randint(200, 3000) for code in codes[BUDGETS[1]]]
    generate = UnitRef(kind="generate", digest=sha256_of(f"generate {model} {benchmark} {part}".encode()))
    grade = UnitRef(kind="grade", digest=sha256_of(f"grade {model} {benchmark} {part}".encode()))
    outputs = [
        Output(
            problem=problem, prompt_sha256="0" * 64, prompt_tokens=80, token_ids=(1,) * count,
            text=_text(rng, characters), finish_reason="length" if count == 4096 else "stop",
        )
        for problem, count in zip(problems, tokens, strict=True)
    ]  # fmt: skip
    grades = [
        _grade(problem, budget, min(count, budget), code)
        for budget in BUDGETS
        for problem, count, code in zip(problems, tokens, codes[budget], strict=True)
    ]
    _publish(store, generate, "outputs", outputs, _outputs_record(len(outputs), sum(tokens)))
    _publish(store, grade, "grades", grades, GradesRecord(budgets=(), grader_version="grade-1", seconds=1, versions={}))
    return ManifestEvaluation(
        model=model, benchmark=benchmark, part=part, state="done", generate=generate.digest, grade=grade.digest,
        problems=problems, tokens=tuple(tokens), finish="".join("l" if t == 4096 else "s" for t in tokens),
        budgets=tuple(BudgetVerdicts(counts=counts(b, codes[b]), verdicts=codes[b]) for b in BUDGETS),
        generate_attempts=1, grade_attempts=1, generate_seconds=300.0, prompts_sha256="0" * 64, engine=ENGINE,
        grader_version="grade-1",
    )  # fmt: skip


def _text(rng: random.Random, characters: int) -> str:
    words = " ".join(rng.choices(NUMBERED_WORDS, k=characters // 7))
    return f"<think>{words}</think> \\boxed{{{rng.randint(0, 99)}}} {HOSTILE}"


def _grade(problem: str, budget: int, tokens: int, code: str) -> Grade:
    return Grade(
        problem=problem, index=0, budget_tokens=budget, tokens=tokens, ended=code.isupper(), completed=code.isupper(),
        incomplete=None if code.isupper() else "unclosed_think", answer=HOSTILE.replace("\ud800", ""),
        verdict={"r": "right", "w": "wrong", "n": "no_answer"}[code.lower()],
        cause=None if code in "Rr" else "different_answer", evidence={"gold<b>": "42", "test": {"call": "f(1)"}},
    )  # fmt: skip


def _outputs_record(outputs: int, tokens: int) -> OutputsRecord:
    return OutputsRecord(
        engine=ENGINE, outputs=outputs, generated_tokens=tokens, finish_reasons={}, prompts_sha256="0" * 64,
        tokenizer_sha256="0" * 64, seconds=300.0, versions={},
    )  # fmt: skip


def _publish(
    store: Store, unit: UnitRef, name: str, rows: list[Output] | list[Grade], record: OutputsRecord | GradesRecord
) -> None:
    lines = [json.dumps(row.model_dump(mode="python", by_alias=True), default=list) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        commit_marker(store, unit, 1, name, {path.name: path}, record, now=datetime(2026, 2, 16, tzinfo=UTC))
