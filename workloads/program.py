"""The common code of every program that runs a task: `POTSTILL_STORE=<url> python -m workloads.<program> <task key>`.

    def body(context: Context[TrainTask]) -> None: ...
    if __name__ == "__main__":
        sys.exit(run_program(TrainTask, body))

An exception from `body` becomes `attempts/<n>/failure.json` and an exit code (`records.ExitCode`): ProgramError its
own; Superseded 12; Corrupt, ContentError 11; StoreError 16; anything else 1 (a crash, tried again). The first SIGTERM
or SIGINT sets `context.terminated`; the second ends the program wherever it is. Both: exit code 15.
"""

import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from workloads.api import store_keys
from workloads.api.records import ExitCode, Failure, Marker, Progress, Record
from workloads.api.tasks import RunnableTask, parse_task
from workloads.api.units import UnitRef
from workloads.attempt_log import AttemptLog
from workloads.progress import DIRECTORY_PROGRESS_SECONDS, PROGRESS_SECONDS, Courier, ProgressSink
from workloads.registry import RegistryError
from workloads.storage.base import AlreadyExists, NotFound, Store, StoreError, open_store
from workloads.storage.content_digest import ContentError
from workloads.storage.markers import Corrupt, Superseded, commit_marker
from workloads.untrusted import printable

TaskType = TypeVar("TaskType", bound=RunnableTask)

LONGEST_MESSAGE = 20_000

logger = logging.getLogger("potstill")


class ProgramError(Exception):
    """An expected failure. `reason` is one CamelCase word, `message` says what to do.

    `member`: the digest of the group's member that caused it.
    """

    def __init__(self, exit_code: int, reason: str, message: str, member: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)
        self.reason = reason
        self.message = message
        self.member = member


class Terminated(ProgramError):
    """The program was asked to end: by a drained node, a suspended experiment, or Ctrl-C."""

    def __init__(self) -> None:
        super().__init__(ExitCode.TERMINATED, "Terminated", "the program was asked to end before it was done")


def other_version(asked: str, here: str) -> ProgramError:
    """Returns the error for an installed version that differs from the one in the digest, whose results would be
    wrong.
    """
    message = f"the task asks for {asked}, and this program is {here}: use the image of the controller's own version"
    return ProgramError(ExitCode.BAD_CONFIGURATION, "OtherVersion", message)


@dataclass(frozen=True)
class Context(Generic[TaskType]):
    store: Store
    task: TaskType
    terminated: threading.Event
    now: Callable[[], datetime]
    courier: ProgressSink = field(repr=False)

    def attempt_prefix(self, unit: UnitRef | None = None, number: int | None = None) -> str:
        """Returns the prefix that this attempt may write to: the task's own, or that of a group's member."""
        return store_keys.attempt_prefix(unit or self.task.unit, number or self.task.number)

    def progress(self, progress: Progress) -> None:
        """Passes on the latest progress, which is written within seconds. A change of `loading` is written before it
        returns.

        Never raises, because the work can continue without it.
        """
        self.courier.leave(progress)

    def commit(
        self,
        name: str,
        files: Mapping[str, Path],
        record: Record,
        *,
        parent: str | None = None,
        content: str | None = None,
        unit: UnitRef | None = None,
        number: int | None = None,
    ) -> Marker:
        """Calls `commit.publish` for this attempt, or for the member `unit`, `number`.

        Raises Superseded, StoreError.
        """
        unit, number = unit or self.task.unit, number or self.task.number
        marker = commit_marker(
            self.store, unit, number, name, files, record, now=self.now(), parent=parent, content=content
        )
        logger.info("%s: committed %s, %s bytes", unit, name, f"{sum(file.size for file in marker.files):,}")
        self.courier.notify(unit, number, name)
        return marker

    def notify(self, about: str) -> None:
        """Asks controllers to list this attempt's unit now, after a commit that `commit` did not make."""
        self.courier.notify(self.task.unit, self.task.number, about)

    def fail_member(self, unit: UnitRef, number: int, error: BaseException) -> None:
        """Writes a member's failure to its own attempt, so that the rest of the group can continue.

        Raises StoreError.
        """
        failure = failure_of(error, member=unit.digest)
        logger.error("%s: %s: %s", unit, failure.reason, failure.message)
        self.store.put(store_keys.failure_key(unit, number), failure.to_json())
        self.courier.notify(unit, number, "failure")

    def stop_if_terminated(self) -> None:
        """Raises Terminated after a SIGTERM."""
        if self.terminated.is_set():
            raise Terminated


def run_program(
    task_type: type[TaskType],
    body: Callable[[Context[TaskType]], None],
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Reads the task named by the only argument, runs `body`, and returns the exit code. Call it in the main thread."""
    terminated = threading.Event()
    log = AttemptLog()
    with log.installed(), _signals(terminated):
        try:
            store, task = _open(task_type, sys.argv[1:] if arguments is None else arguments, environment)
            is_directory = store.url.startswith("file:")
            seconds = DIRECTORY_PROGRESS_SECONDS if is_directory else PROGRESS_SECONDS
            with Courier(store, task.unit, task.number, log, seconds, notices=not is_directory) as courier:
                return _run(body, Context(store, task, terminated, lambda: datetime.now(UTC), courier))
        except (Exception, KeyboardInterrupt) as error:
            return _explain(error).exit_code


def _run(body: Callable[[Context[TaskType]], None], context: Context[TaskType]) -> int:
    task = context.task
    logger.info("%s attempt %d (%s) begins", task.unit, task.number, task.type)
    try:
        body(context)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        failure = _explain(error)
        try:
            context.store.put(store_keys.failure_key(task.unit, task.number), failure.to_json())
        except StoreError as away:
            logger.error("could not write failure.json: %s", away)
            context.courier.abandoned = True
        return failure.exit_code
    logger.info("%s attempt %d is done", task.unit, task.number)
    return int(ExitCode.OK)


def failure_of(error: BaseException, member: str | None = None) -> Failure:
    """Returns the content of `failure.json` for an exception. A crash has the end of its traceback."""
    known: list[tuple[type[BaseException], int, str]] = [
        (Superseded, ExitCode.SUPERSEDED, "Superseded"),
        (Corrupt, ExitCode.BAD_DATA, "CorruptFiles"),
        (ContentError, ExitCode.BAD_DATA, "InputChanged"),
        (RegistryError, ExitCode.BAD_CONFIGURATION, "BadRegistration"),
        (NotFound, 1, "ObjectMissing"),
        (AlreadyExists, 1, "WriteConflict"),
        (StoreError, ExitCode.STORE_UNAVAILABLE, "StoreUnavailable"),
    ]
    if isinstance(error, KeyboardInterrupt):
        error = Terminated()
    if isinstance(error, ProgramError):
        member = error.member or member
        return _failure(error.exit_code, error.reason, error.message, member)
    for kind, exit_code, reason in known:
        if isinstance(error, kind):
            return _failure(int(exit_code), reason, str(error), member)
    name = type(error).__name__
    reason = name if re.fullmatch(r"[A-Z][A-Za-z]+", name) else "Crashed"
    trace = "".join(traceback.format_exception(error))[-20_000:]
    return _failure(1, reason, str(error) or name, member, trace)


def _failure(exit_code: int, reason: str, message: str, member: str | None, trace: str | None = None) -> Failure:
    """Returns a record that can always be written and displayed, for any text in the message."""
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + " ..."
    return Failure(
        exit_code=exit_code,
        reason=reason,
        message=printable(message),
        traceback=None if trace is None else printable(trace),
        member=member,
    )


def _open(
    task_type: type[TaskType], arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[Store, TaskType]:
    url = environment.get("POTSTILL_STORE")
    if url is None or len(arguments) != 1:
        raise _misuse("run it as POTSTILL_STORE=<s3://bucket/prefix or file:///dir> python -m <program> <task key>")
    try:
        store = open_store(url, environment)
        task = parse_task(store.get(arguments[0]))
    except ValueError as error:
        raise _misuse(f"{url} {arguments[0]}: {error}") from error
    except NotFound as error:
        raise _misuse(f"there is no such task: {error}") from error
    if not isinstance(task, task_type) or task.key != arguments[0]:
        raise _misuse(f"{arguments[0]} holds a {task.type} task of {task.key}, not a {task_type.__name__} of its key")
    return store, task


def _misuse(message: str) -> ProgramError:
    return ProgramError(ExitCode.BAD_CONFIGURATION, "BadTask", message)


def _explain(error: BaseException) -> Failure:
    failure = failure_of(error)
    logger.error("%s (exit %d): %s", failure.reason, failure.exit_code, failure.message)
    if failure.traceback:
        logger.error("%s", failure.traceback)
    return failure


@contextmanager
def _signals(terminated: threading.Event) -> Iterator[None]:
    """Within the block, the first SIGTERM or SIGINT sets `terminated`; later ones raise KeyboardInterrupt.

    A handler may interrupt any code: it takes no lock, so it does not log, and it raises no Exception, which the
    interrupted code might swallow.
    """

    def take(number: int, _: object) -> None:
        if terminated.is_set():
            raise KeyboardInterrupt
        terminated.set()
        os.write(2, f"{signal.Signals(number).name}: ending as soon as the work is saved\n".encode())

    before = {number: signal.signal(number, take) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
