"""What goes to a sandbox server and what comes back, as JSON lines. Standard library only."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

End = Literal[
    "finished", "exception", "timeout", "memory", "exit", "crash", "syntax_error", "missing_function", "flood"
]
"""How an execution ended. finished: every test returned. exit: the process ended by itself before that.
flood: it wrote more than its share, or what is not the protocol."""

ENDS = frozenset(
    ("finished", "exception", "timeout", "memory", "exit", "crash", "syntax_error", "missing_function", "flood")
)

MOST_TRIES = 2
"""What failed for no fault of the program is run once more, alone."""


@dataclass(frozen=True)
class SandboxLimits:
    """`cpu_seconds` per test; `total_cpu_seconds` for the whole execution, compilation of the program included.

    `encode_cpu_seconds` is the most that a large value may add to its test's limit (see `watch`). `idle_seconds` is how
    long a program may wait in all while the machine has processor time for it. A stage's wall limit, factor * CPU limit
    + extra, and that of the execution, factor * CPU time used + `starved_seconds`, are for machines that have none.
    """

    cpu_seconds: tuple[float, ...]
    total_cpu_seconds: float
    memory_bytes: int = 4 << 30
    output_bytes: int = 64 << 20
    encode_cpu_seconds: float = 20.0
    wall_factor: float = 10.0
    wall_extra_seconds: float = 5.0
    idle_seconds: float = 5.0
    starved_seconds: float = 60.0

    def wall_seconds(self, cpu_seconds: float) -> float:
        return cpu_seconds * self.wall_factor + self.wall_extra_seconds


@dataclass(frozen=True)
class Order:
    """One execution of a program on one suite's inputs. There is no expected value in it."""

    key: str
    program: str
    entry_point: str
    arguments: tuple[str, ...]
    limits: SandboxLimits

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Outcome:
    """`values`: typed JSON of what the first len(values) tests returned; the next one ended the execution, if any.

    `seconds`: CPU seconds of each of those tests. `detail` is the candidate's word: an exception's type and message.
    `doubtful`: the machine may have ended it, and not the program: too little memory or processor time for all.
    `tries`: how often it was run.
    """

    key: str
    end: End
    values: tuple[str, ...]
    seconds: tuple[float, ...]
    detail: str
    cpu_seconds: float
    wall_seconds: float
    doubtful: bool = False
    tries: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Lost:
    """The sandbox failed, not the candidate. `tries`: how often."""

    key: str
    reason: str
    tries: int = 1

    def to_json(self) -> str:
        return json.dumps({"key": self.key, "lost": self.reason, "tries": self.tries})


def order_from(data: dict[str, Any]) -> Order:
    limits = data["limits"]
    return Order(
        key=data["key"],
        program=data["program"],
        entry_point=data["entry_point"],
        arguments=tuple(data["arguments"]),
        limits=SandboxLimits(**{**limits, "cpu_seconds": tuple(limits["cpu_seconds"])}),
    )


def outcome_from(data: Any) -> Outcome:
    """ValueError unless every field is of its type: outcomes may come from a file that hostile code could write.

    Halves of surrogate pairs become `?`: no UTF-8 file could hold what a candidate's exception says with one.
    """
    try:
        outcome = Outcome(
            key=data["key"],
            end=data["end"],
            values=tuple(data["values"]),
            seconds=tuple(float(s) for s in data["seconds"]),
            detail=data["detail"],
            cpu_seconds=float(data["cpu_seconds"]),
            wall_seconds=float(data["wall_seconds"]),
            doubtful=data.get("doubtful") is True,
            tries=_tries(data),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as e:
        raise ValueError(f"not an outcome: {type(e).__name__}: {e}"[:200]) from e
    texts = (outcome.key, outcome.detail, *outcome.values)
    if outcome.end not in ENDS or not all(type(text) is str for text in texts):
        raise ValueError(f"not an outcome: {outcome.end!r:.40}")
    return replace(outcome, detail=_writable(outcome.detail), values=tuple(map(_writable, outcome.values)))


def result_from(data: Any) -> Outcome | Lost:
    """`outcome_from`, or what tells of a sandbox that was lost. ValueError if it is neither."""
    if not isinstance(data, dict) or "lost" not in data:
        return outcome_from(data)
    if type(data.get("key")) is not str or type(data["lost"]) is not str:
        raise ValueError("not an outcome: lost what?")
    return Lost(_writable(data["key"]), _writable(data["lost"][:500]), _tries(data))


def _tries(data: dict[str, Any]) -> int:
    tries = data.get("tries", 1)
    return tries if type(tries) is int and 1 <= tries <= MOST_TRIES else 1


def _writable(text: str) -> str:
    return text.encode(errors="replace").decode()
