"""Uploads behind the training: one piece of work at a time, in order, its errors raised in the training thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Publisher:
    """Leaving the context waits for what was submitted; if it is left by an exception, that exception goes on."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self._last: Future[None] | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """Waits for the work before it, whose snapshot shares its memory. Raises what that work raised."""
        self.wait()
        self._last = self._pool.submit(work)

    @property
    def idle(self) -> bool:
        return self._last is None or self._last.done()

    def check(self) -> None:
        """Raises what finished work raised; never waits."""
        if self._last is not None and self._last.done():
            self._last.result()

    def wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            self.wait()
