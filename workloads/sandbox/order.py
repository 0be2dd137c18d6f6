"""Orders to a sandbox server and its outcomes, as JSON lines. Standard library only."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

End = Literal[
    "finished", "exception", "timeout", "memory", "exit", "crash", "syntax_error", "missing_function", "flood"
]
"""How an execution ended. finished: every test returned. exit: the process ended by itself before that.

flood: it wrote more than its limit, or did not follow the protocol.
"""

ENDS = frozenset(
    ("finished", "exception", "timeout", "memory", "exit", "crash", "syntax_error", "missing_function", "flood")
)

MOST_TRIES = 2
"""An order that failed for a reason outside of the program is run once more, alone."""


@dataclass(frozen=True)
class SandboxLimits:
    """`cpu_seconds`: per test; `total_cpu_seconds`: for the whole execution, including compilation of the program.

    `encode_cpu_seconds`: the most that a large value may add to its test's limit (see `watch`). `idle_seconds`: how
    long a program may wait in total while the machine has processor time for it. A stage's wall limit, factor * CPU
    limit + extra, and that of the execution, factor * CPU time used + `starved_seconds`, are for overloaded machines.
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
    """One execution of a program on one suite's inputs. It contains no expected value."""

    key: str
    program: str
    entry_point: str
    arguments: tuple[str, ...]
    limits: SandboxLimits

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Outcome:
    """`values`: typed JSON of the results of the first len(values) tests; the next one, if any, ended the execution.

    `seconds`: CPU seconds of each of those tests. `detail`: from the candidate: an exception's type and message.
    `doubtful`: the machine may have ended it, and not the program, for lack of memory or processor time. `tries`: how
    often it was run.
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
    """The sandbox failed, and not the candidate. `tries`: how often."""

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
    """Raises ValueError unless every field has its type, because hostile code may have written the file.

    Halves of surrogate pairs become `?`, because UTF-8 files cannot contain them.
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
    """Returns `outcome_from`, or a Lost record. Raises ValueError if it is neither."""
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
