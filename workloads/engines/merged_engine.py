"""Serves many adapters with an engine that merges one at a time: requests wait for their adapter's turn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from workloads.engines.base import Adapter, BadAdapter, Demands, Engine, Finished, Request, nothing

UNKNOWN = "unknown"
"""Not an adapter's name, because those are digests."""


class MergingEngine(Engine, Protocol):
    """An engine whose weights can be changed to those of an adapter. It does not support adapters in other ways."""

    def merge(self, adapter: Adapter | None) -> None:
        """Call it only while no request is pending. Raises BadAdapter, and then the weights are unchanged."""
        ...


class MergedEngine:
    """Requests of an adapter start together when those of the adapter before have ended."""

    one_adapter_at_a_time = True

    def __init__(self, inner: MergingEngine) -> None:
        self._inner = inner
        self._merged: str | None = None
        self._waiting: list[Request] = []

    @property
    def versions(self) -> dict[str, str]:
        return self._inner.versions

    @property
    def flags(self) -> dict[str, str | int | float | bool]:
        return self._inner.flags

    @property
    def generated_tokens(self) -> int:
        return self._inner.generated_tokens

    @property
    def pending(self) -> int:
        return len(self._waiting) + self._inner.pending

    def accepts(self, demands: Demands) -> bool:
        return self._inner.accepts(demands)

    def wants(self, adapter: Adapter | None, /) -> bool:
        return not self.pending or (adapter.name if adapter else None) == self._merged

    def room(self, _requests: int, /) -> int:
        return 0

    def load(self, adapter: Adapter) -> None:
        """Merges the adapter now; if requests of another one run, when its turn comes."""
        if not self._inner.pending:
            self._merge(adapter)

    def log_probs(
        self, sequences: Sequence[Sequence[int]], adapter: Adapter | None, tick: Callable[[], None] = nothing
    ) -> list[tuple[float, ...]]:
        if self._inner.pending:
            raise RuntimeError("log_probs while requests are under way would change their weights")
        self._merge(adapter)
        return self._inner.log_probs(sequences, None, tick)

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def step(self) -> list[Finished]:
        if not self._inner.pending:
            chosen = self._next()
            try:
                self._merge(chosen[0].adapter)
            except BadAdapter as error:
                return [Finished(request.id, (), "error", 0.0, str(error)) for request in chosen]
            for request in chosen:
                self._inner.submit(replace(request, adapter=None))
        return self._inner.step()

    def close(self) -> None:
        self._waiting.clear()
        self._inner.close()

    def _next(self) -> list[Request]:
        """Returns all waiting requests of the merged adapter; if there are none, those of the first request's
        adapter.
        """
        names = [request.adapter.name if request.adapter else None for request in self._waiting]
        turn = self._merged if self._merged in names else names[0]
        pairs = list(zip(names, self._waiting, strict=True))
        self._waiting = [request for name, request in pairs if name != turn]
        return [request for name, request in pairs if name == turn]

    def _merge(self, adapter: Adapter | None) -> None:
        """After an error other than BadAdapter the merged state is unknown, so the next call merges again."""
        name = adapter.name if adapter else None
        if name == self._merged:
            return
        before, self._merged = self._merged, UNKNOWN
        try:
            self._inner.merge(adapter)
        except BadAdapter:
            self._merged = before
            raise
        self._merged = name
