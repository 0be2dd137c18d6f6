"""The interface of engines: prompts as token ids in, token ids out. No torch, no vLLM."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from workloads.api.model import sha256_of
from workloads.api.units import EngineIdentity
from workloads.models.shapes import ModelShapes

if TYPE_CHECKING:  # only programs need the tokenizers library
    from workloads.text.tokenizer import TextTokenizer

Target = Literal["attention", "all"]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a directory. `name` is its content digest: equal names mean equal weights.

    `target`: whether it changes layers outside the attention.
    """

    name: str
    directory: Path
    rank: int
    target: Target = "all"


@dataclass(frozen=True)
class Demands:
    """The requirements of a group: the longest prompt with its limit, the largest rank (0: no adapter), the layers.

    `foreseen_rank`: the rank of adapters that may come later; the engine should have slots for them if possible.
    """

    longest_tokens: int
    rank: int = 0
    target: Target = "attention"
    foreseen_rank: int = 0


@dataclass(frozen=True)
class Foreseen:
    """What a task states about all adapters of its experiment: the layers that they change, and the largest rank
    or 0.
    """

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
    """`group`: the request's evaluation.

    An engine whose results depend on the batch makes batches of one evaluation only.
    """

    id: str
    group: str
    prompt: tuple[int, ...]
    adapter: Adapter | None
    decoding: Decoding
    seed: int


@dataclass(frozen=True)
class Finished:
    """`error`: why the engine gave this request up; its tokens are then those generated before.

    `seconds`: since the engine began with the request.
    """

    id: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length", "error"]
    seconds: float
    error: str | None = None


def nothing() -> None: ...


class BadAdapter(Exception):
    """One adapter cannot be used; the engine and the other adapters still can."""


class BadBase(Exception):
    """The base's files do not have every linear layer in plain form under its own name."""


class BadFlag(ValueError):
    """An unknown flag, or an invalid value of a flag."""


class Engine(Protocol):
    """One loaded base model. Not thread-safe, except for `generated_tokens`."""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of all packages that compute."""
        ...

    @property
    def flags(self) -> dict[str, str | int | float | bool]:
        """The flags of the running engine, including defaults."""
        ...

    @property
    def generated_tokens(self) -> int:
        """The number of tokens since the start. It rises while the engine works."""
        ...

    @property
    def pending(self) -> int:
        """The number of requests submitted and not yet finished."""
        ...

    @property
    def one_adapter_at_a_time(self) -> bool:
        """Returns whether changing the adapter takes time and is impossible while requests run."""
        ...

    def accepts(self, demands: Demands) -> bool:
        """Returns whether the engine can run a group with these requirements."""
        ...

    def wants(self, adapter: Adapter | None, /) -> bool:
        """Returns whether it can take more requests, with this adapter beside those of pending requests.

        True while nothing is pending. An adapter that was loaded earlier may be unloaded for it, and be loaded again
        later.
        """
        ...

    def room(self, requests: int, /) -> int:
        """Returns how many more evaluations it would begin at once, each with `requests` and a separate adapter.

        Call it while requests are pending. It is 0 if another adapter must wait for the running ones.
        """
        ...

    def load(self, adapter: Adapter) -> None:
        """Raises BadAdapter."""
        ...

    def log_probs(
        self, sequences: Sequence[Sequence[int]], adapter: Adapter | None, tick: Callable[[], None] = nothing
    ) -> list[tuple[float, ...]]:
        """Returns for each sequence of T token ids the T - 1 log-probabilities (nats) of `ids[1:]`, each given the
        tokens before.

        `tick` is called regularly and may raise: other requests may have to end before there is memory for these.
        """
        ...

    def submit(self, request: Request) -> None: ...

    def step(self) -> list[Finished]:
        """Works for a short time and returns finished requests, possibly none. Call it while requests are `pending`."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class FirstGroup:
    """The first work of a new engine: the numbers of evaluations, adapters and requests (mean per evaluation)."""

    evaluations: int
    adapters: int
    requests: float


class EngineDefinition(ABC):
    """An engine's entry in the registry (`workloads.engines.registry`). Its module imports neither torch nor vLLM.

    `name`: as profiles and experiments state it. `distributions`: alternative packages, one of which is installed; its
    version is the engine's version. An engine without a package has none, and accepts any version.
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
        """Returns the engine with the base in `directory`. Raises BadFlag, BadBase, DoesNotFit (`engines.memory`)."""

    def prepare(self, asked: EngineIdentity) -> None:
        """Prepares a start in parallel with other work. May raise BadFlag, which `start` raises again."""

    def room_at_start(self, asked: EngineIdentity, group: FirstGroup, demands: Demands, context_tokens: int) -> int:
        """Returns how many more evaluations than those of `group` the new engine will take at once, computed from its
        flags.
        """
        return 0


def request_seed(seed: int, problem: str, index: int) -> int:
    """Returns 63 bits from the evaluation's seed, the problem and the output's index: the same in any batch."""
    return int(sha256_of(f"{seed}\n{index}\n{problem}".encode())[:16], 16) >> 1
