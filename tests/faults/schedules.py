"""Schedules of faults, drawn from a seed alone: what happens to a run, and after how much of its work."""

import random
from dataclasses import dataclass
from typing import Literal

StoreKind = Literal["directory", "s3"]
ROLES = ("train", "evaluate", "grade", "report")
EVERYWHERE = (
    "kill runner", "kill train", "kill evaluate", "kill grade", "kill report", "kill everything",
    "pause runner", "pause train", "pause evaluate", "stop runner", "second runner", "other machine",
    "clock ahead", "clock behind", "full disk", "gc beside", "retry beside",
)  # fmt: skip
OF_S3 = (
    "S3 restart", "S3 killed", "S3 pause", "S3 refuses connections", "S3 latency", "S3 bandwidth", "S3 resets",
    "S3 answers 5xx", "S3 loses answers", "S3 empty answers",
)  # fmt: skip
ON_CLUSTER = (
    "API server restart", "API server killed", "etcd killed", "controller manager killed",
    "kill controller", "stop controller", "pause controller", "second controller", "other settings",
    "kill train", "kill evaluate", "kill grade", "kill report", "delete train", "delete evaluate", "evict train",
    "evict grade", "create again", "suspend", "retry beside", "gc beside",
)  # fmt: skip
"""On a control plane without nodes, whose pods are processes beside it."""
WORK = 22
"""Starts of programs and markers of an undisturbed run, about."""


@dataclass(frozen=True)
class Fault:
    """`after`: the number of started programs and committed markers before it. `delay_seconds` count from then, or from
    when the program that it kills or pauses is running."""

    kind: str
    after: int
    delay_seconds: float
    lasts_seconds: float


@dataclass(frozen=True)
class Schedule:
    seed: int
    store: StoreKind
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"{self.seed} {self.store}: " + ", ".join(f"{f.kind} @{f.after}" for f in self.faults)


def draw(seed: int) -> Schedule:
    """The schedule of this seed for `potstill run`: one to four faults, of a directory and of S3 in turns."""
    store: StoreKind = "s3" if seed % 2 else "directory"
    return drawn(seed, store, EVERYWHERE + OF_S3 if store == "s3" else EVERYWHERE)


def draw_on_cluster(seed: int) -> Schedule:
    """The schedule of this seed for a controller: one to four faults, of the cluster and of S3."""
    return drawn(seed, "s3", ON_CLUSTER + OF_S3)


def drawn(seed: int, store: StoreKind, kinds: tuple[str, ...]) -> Schedule:
    chance = random.Random(seed)
    faults = [
        Fault(
            chance.choice(kinds),
            after=chance.randrange(WORK),
            delay_seconds=chance.choice([0.0, 0.0, chance.uniform(0, 0.6)]),
            lasts_seconds=chance.uniform(0.5, 4.0),
        )
        for _ in range(chance.randint(1, 4))
    ]
    return Schedule(seed, store, tuple(sorted(faults, key=lambda fault: fault.after)))
