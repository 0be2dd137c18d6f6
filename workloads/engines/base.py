"""What an engine does, and nothing about how: prompts as token ids in, token ids out. No torch, no vLLM."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from workloads.api.model import sha256_of
from workloads.api.units import EngineIdentity
from workloads.models.shapes import ModelShapes

if TYPE_CHECKING:  # the tokenizers library is for programs
    from workloads.text.tokenizer import TextTokenizer

Target = Literal["attention", "all"]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a directory of its own. `name` is its content digest: equal names mean equal weights.

    `target`: whether it changes layers outside the attention.
    """

    name: str
    directory: Path
    rank: int
    target: Target = "all"


@dataclass(frozen=True)
class Demands:
    """What a group asks of its engine: the longest prompt with its limit, the largest rank (0: no adapter), layers.

    `foreseen_rank`: of adapters that may come, for which it is to have slots where it can.
    """

    longest_tokens: int
    rank: int = 0
    target: Target = "attention"
    foreseen_rank: int = 0


@dataclass(frozen=True)
class Foreseen:
    """What a task says of all adapters of its experiment: the layers that they change, the largest rank or 0."""

    target: Target
    rank: int = 0


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen and when to stop. Temperature 0 is greedy; the stop token stays in the output."""

    temperature: float
    top_p: float
    limit_tokens: int
    stop_token_ids: tuple[int, ...]
    stop_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """`group` is the evaluation it belongs to: an engine whose batches change results keeps a batch within one."""

    id: str
    group: str
    prompt: tuple[int, ...]
    adapter: Adapter | None
    decoding: Decoding
    seed: int


@dataclass(frozen=True)
class Finished:
    """`error` says why the engine gave this one up; its tokens are then what was generated before.

    `seconds`: since the engine began with it.
    """

    id: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length", "error"]
    seconds: float
    error: str | None = None


def nothing() -> None: ...


class BadAdapter(Exception):
    """One adapter cannot be used; the engine and the other adapters can."""


class BadBase(Exception):
    """The base's files do not hold every linear layer plainly, under its own name."""


class BadFlag(ValueError):
    """A flag that does not exist, or a value that it cannot have."""


class Engine(Protocol):
    """One base model, ready to generate. Not thread-safe, but for `generated_tokens`."""

    @property
    def versions(self) -> dict[str, str]:
        """Of everything that computes."""
        ...

    @property
    def flags(self) -> dict[str, str | int | float | bool]:
        """As the engine really runs, defaults included."""
        ...

    @property
    def generated_tokens(self) -> int:
        """Since the start, rising while the engine lives."""
        ...

    @property
    def pending(self) -> int:
        """Requests submitted and not yet finished."""
        ...

    @property
    def one_adapter_at_a_time(self) -> bool:
        """Whether changing from one adapter to another takes time, and cannot be done while requests are under way."""
        ...

    def accepts(self, demands: Demands) -> bool:
        """Whether a group that asks for so much can be given to it."""
        ...

    def wants(self, adapter: Adapter | None, /) -> bool:
        """Whether it has room for more requests, and for this adapter among those of requests that are pending.

        True while nothing is pending. An adapter that is loaded before may have to give way, and be loaded again.
        """
        ...

    def room(self, requests: int, /) -> int:
        """How many more evaluations of so many requests, each of an adapter of its own, it would begin with at once.

        To be asked while something is pending. 0 where another adapter has to wait for those before it.
        """
        ...

    def load(self, adapter: Adapter) -> None:
        """Raises BadAdapter."""
        ...

    def log_probs(
        self, sequences: Sequence[Sequence[int]], adapter: Adapter | None, tick: Callable[[], None] = nothing
    ) -> list[tuple[float, ...]]:
        """For each sequence of T token ids the T - 1 log-probabilities (nats) of `ids[1:]`, each given those before.

        `tick` is called now and then, and may raise: other requests may have to end before there is room for these.
        """
        ...

    def submit(self, request: Request) -> None: ...

    def step(self) -> list[Finished]:
        """Works a short while and returns what finished, perhaps nothing. Call while `pending`."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class FirstGroup:
    """What an engine is started for: so many evaluations, of so many adapters, with so many requests each (mean)."""

    evaluations: int
    adapters: int
    requests: float


class EngineDefinition(ABC):
    """An engine as the registry knows it (`workloads.engines.registry`). Its module imports neither torch nor vLLM.

    `name`: as profiles and experiments state it. `distributions`: the packages of which one is installed; its version
    is the engine's version. An engine without a package of its own has none, and any version is taken.
    """

    name: str
    distributions: tuple[str, ...] = ()

    @abstractmethod
    def start(
        self,
        asked: EngineIdentity,
        directory: Path,
        shapes: ModelShapes,
        tokenizer: "TextTokenizer",
        demands: Demands,
    ) -> Engine:
        """The engine with the base of `directory` loaded. Raises BadFlag, BadBase, DoesNotFit (`engines.memory`)."""

    def prepare(self, asked: EngineIdentity) -> None:
        """Begins what a start can do beside other things. May raise BadFlag, which `start` raises again."""

    def room_at_start(self, asked: EngineIdentity, group: FirstGroup, demands: Demands, context_tokens: int) -> int:
        """How many more evaluations than those of `group` the engine will take at once, as far as its flags tell."""
        return 0


def request_seed(seed: int, problem: str, index: int) -> int:
    """63 bits from the evaluation's seed, the problem and the output's index: the same in any batch."""
    return int(sha256_of(f"{seed}\n{index}\n{problem}".encode())[:16], 16) >> 1
