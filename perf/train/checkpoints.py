"""What a checkpoint costs the training: the time the steps stand still, and their time while it is uploaded.

    python -m perf.train.checkpoints --out DIR [--layers 24] [--documents 12] [--checkpoints 8 36] [--work DIR]

One GPU, the trainer's own loop, snapshot, publisher and commit, into a directory under `--work` or into the store
`--store`. A step's time is the device's, from the end of the step before: what a checkpoint costs is in the step after
it. Writes DIR/checkpoints.json after every step; ends a few steps after the last checkpoint is committed, before one
that would wait for the upload of the one before it, or at `--limit-seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from perf.train.trainee import build, memory_of, random_rows, shapes, task_of, training  # isort: skip

import torch

from perf.train.shapes import CONFIG, machine
from workloads.api.records import Marker, Progress, Record
from workloads.api.tasks import TrainTask
from workloads.attempt_log import AttemptLog
from workloads.data.samples import TrainingData
from workloads.program import Context
from workloads.progress import Courier
from workloads.storage.base import open_store
from workloads.train.canary import canaries, canary_sequences, log_probs
from workloads.train.checkpoint_writer import Publisher
from workloads.train.loop import Training
from workloads.train.ranks import join_ranks

WARM_STEPS = 3
"""Not counted: the device's first steps compile and allocate."""
STEPS_AFTER = 5
STEPS = 10_000
"""More than are made: the program ends by itself."""
STALL_SECONDS, SLOWER_SHARE = 0.5, 0.02


class Enough(Exception):
    """Measured; not an error."""


@dataclass
class Timeline:
    """Seconds since the run began. `steps`: each step's device time. `commits`: (marker, begin, end, bytes)."""

    began: float
    steps: list[float] = field(default_factory=list)
    commits: list[tuple[str, float, float, int]] = field(default_factory=list)
    publishing: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, begin, seconds) of the training thread's part of each checkpoint."""

    def now(self) -> float:
        return time.monotonic() - self.began


@dataclass(frozen=True)
class Watched(Context[TrainTask]):
    """A leader whose commits and steps are written down."""

    timeline: Timeline
    stepped: Callable[[], None]

    def progress(self, progress: Progress) -> None:
        super().progress(progress)
        self.stepped()

    def commit(self, name: str, files: Mapping[str, Path], record: Record, **more: Any) -> Marker:
        begin = self.timeline.now()
        marker = super().commit(name, files, record, **more)
        self.timeline.commits.append((name, begin, self.timeline.now(), sum(file.size for file in marker.files)))
        return marker


class TimedTraining(Training):
    timeline: Timeline

    def _publish(self, publisher: Publisher) -> None:
        begin = self.timeline.now()
        super()._publish(publisher)
        self.timeline.publishing.append((self.cursor.step, begin, self.timeline.now() - begin))


def costs(timeline: Timeline) -> dict[str, Any]:
    """From the steps' device times, what each checkpoint cost. A step ends at the sum of the times up to it."""
    ends = [sum(timeline.steps[: index + 1]) for index in range(len(timeline.steps))]
    steps = list(zip(timeline.steps, [0.0, *ends], ends, strict=False))
    first = timeline.publishing[0][0] if timeline.publishing else len(steps)
    usual = [seconds for seconds, _, _ in steps[WARM_STEPS:first]]
    if len(usual) < 2:
        return {}
    found: dict[str, Any] = {"usual_step_seconds": median(usual), "usual_spread": [min(usual), max(usual)]}
    after = {step for step, _, _ in timeline.publishing}
    found["checkpoints"] = []
    for number, (step, begin, held) in enumerate(timeline.publishing):
        commits = timeline.commits[2 * number : 2 * number + 2]
        end = commits[1][2] if len(commits) == 2 else None
        during = [
            seconds
            for index, (seconds, start, stop) in enumerate(steps)
            if index > step and index not in after and stop > begin and (end is None or start < end)
        ]
        found["checkpoints"].append({
            "after_step": step,
            "stall_seconds": timeline.steps[step] - median(usual) if step < len(timeline.steps) else None,
            "training_thread_seconds": held,
            "bytes": {name: size for name, _, _, size in commits},
            "behind_the_training_seconds": None if end is None else end - begin,
            "steps_meanwhile": during,
            "slower_meanwhile": median(during) / median(usual) - 1 if during else None,
        })  # fmt: skip
    return found


def said(number: float | None, form: str) -> str:
    return "?" if number is None else format(number, form)


def tell(found: dict[str, Any]) -> bool:
    """Prints what each checkpoint cost; whether all kept within the promise."""
    good = bool(found.get("checkpoints"))
    for entry in found.get("checkpoints", []):
        stall, slower = entry["stall_seconds"], entry["slower_meanwhile"]
        fast = stall is not None and stall < STALL_SECONDS and (slower is None or slower <= SLOWER_SHARE)
        good = good and fast
        sizes = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in entry["bytes"].items())
        print(
            f"{'ok  ' if fast else 'FAIL'} checkpoint after step {entry['after_step']}: steps stood still for "
            f"{said(stall, '.3f')} s (usual step {found['usual_step_seconds']:.3f} s; training thread "
            f"{entry['training_thread_seconds']:.3f} s); {sizes or 'nothing'} committed within "
            f"{said(entry['behind_the_training_seconds'], '.1f')} s; {len(entry['steps_meanwhile'])} steps meanwhile, "
            f"slower by {said(slower, '.2%')}",
            flush=True,
        )
    return good


def measure(args: argparse.Namespace, work: Path) -> int:
    store = open_store(args.store or (work / "store").as_uri())
    with join_ranks() as ranks:
        trainee = build(shapes(args.layers, args.tiny), ranks)
        rows = random_rows([args.length] * args.documents, trainee.config.vocab_size, seed=0)
        task = task_of(args.documents, STEPS, args.length, args.checkpoints)
        full = memory_of(shapes(CONFIG.num_hidden_layers, args.tiny)).adapter // 16
        report: dict[str, Any] = {
            "machine": machine() if ranks.device.type == "cuda" else {}, "commit": args.commit,
            "layers": args.layers, "parameters": trainee.adapter.values.numel(),
            "tokens_per_step": args.length * args.documents, "work": str(work), "store": args.store or "a directory",
            "parameters_48_layers": full, "state_bytes_48_layers": 12 * full, "adapter_bytes_48_layers": 2 * full,
        }  # fmt: skip
        timeline = Timeline(0.0)
        good: list[bool] = []

        def stepped() -> None:
            """Ends the run when all is measured, and before a checkpoint that would wait for the one before it."""
            metric = run.metrics[-1]
            timeline.steps.append(metric.tokens / metric.tokens_per_second)
            found = costs(timeline)
            (args.out / "checkpoints.json").write_text(
                json.dumps(report | vars(timeline) | {"costs": found}, indent=1) + "\n"
            )
            committed = len(timeline.commits) // 2
            waits = committed < len(timeline.publishing) and metric.step + 1 in args.checkpoints
            ended = committed == len(args.checkpoints)
            ended = ended and sum(timeline.steps[:-STEPS_AFTER]) > timeline.commits[-1][2]
            if ended or waits or timeline.now() > args.limit_seconds:
                good.append(tell(found))
                raise Enough

        with Courier(store, task.unit, task.number, AttemptLog()) as courier:
            leader = Watched(
                store, task, threading.Event(), lambda: datetime.now(UTC), courier, timeline=timeline, stepped=stepped
            )
            sequences = canary_sequences(TrainingData(rows, tuple(range(len(rows))), (), None, ()))  # type: ignore[arg-type]
            before = log_probs(trainee.model, sequences)
            begin = time.monotonic()
            run = training(
                trainee, task, rows, ranks, args.tokens, kind=TimedTraining, leader=leader,
                canaries=lambda: canaries(sequences, log_probs(trainee.model, sequences), before),
            )  # fmt: skip
            assert isinstance(run, TimedTraining)
            run.timeline = timeline
            if ranks.device.type == "cuda":
                torch.cuda.synchronize()
            report["pinned_buffers_seconds"] = time.monotonic() - begin
            timeline.began = time.monotonic()
            try:
                run.run()
            except Enough:
                return 0 if all(good) else 1
    raise AssertionError("the run came to its last step")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=None, help="a folder for the store and the trainer's own files")
    parser.add_argument("--store", help="s3://bucket/prefix, an empty one; else a directory")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=16_384, help="per micro-batch, at most")
    parser.add_argument("--documents", type=int, default=12, help="per step")
    parser.add_argument("--length", type=int, default=4096, help="of a document, in tokens")
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[8, 36], help="the steps that end with one")
    parser.add_argument("--limit-seconds", type=float, default=75.0, help="from the first step")
    parser.add_argument("--tiny", action="store_true", help="a small model, to try the program on a CPU")
    parser.add_argument("--commit", default="")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="potstill-checkpoints-", dir=args.work))
    os.environ["TMPDIR"] = str(work)
    tempfile.tempdir = None
    try:
        return measure(args, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
