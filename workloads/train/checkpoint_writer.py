"""Uploads in parallel with the training: one job at a time, in order; errors are raised in the training thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Publisher:
    """Leaving the context waits for submitted jobs. If an exception leaves it, that exception continues."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self._last: Future[None] | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """Waits for the job before it, whose snapshot shares its memory. Raises that job's error."""
        self.wait()
        self._last = self._pool.submit(work)

    @property
    def idle(self) -> bool:
        return self._last is None or self._last.done()

    def check(self) -> None:
        """Raises errors of finished jobs; never waits."""
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
