"""A lease in the store: only one `potstill run` of an experiment runs at a time, also after kill -9. Uses
compare-and-set.

On the same machine the holder is identified by its process, so that a killed one is replaced at once. On another
machine it counts as ended when its record has not changed for LEASE_SECONDS of our own monotonic clock: clocks of two
machines are never compared.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from controller.executors.local.launch import identity, machine
from workloads.api import store_keys
from workloads.api.model import Contract
from workloads.api.tasks import Owner
from workloads.storage.base import AlreadyExists, NotFound, Store, StoreError

LEASE_SECONDS = 60.0
RENEW_SECONDS = 15.0
LOOK_SECONDS = 2.0
"""The interval between two reads of the record of a holder on another machine."""
DELETED_SECONDS = 120.0
"""An owner whose folder is deleted, or whose record is unreadable and does not change, counts as ended after
this time.
"""

logger = logging.getLogger("potstill")


class Busy(Exception):
    """Another process holds the lease. The message names the process and its machine."""


class LeaseLost(Exception):
    """Another process took the lease while this one did not renew it."""


class Runner(Contract):
    """The holder of a lease. `identity` distinguishes its process from a later one with the same number.

    `heartbeat` is for users. Other processes only check whether the record changes.
    """

    schema_version: Literal[1] = 1
    host: str
    machine: str
    pid: int
    identity: str
    heartbeat: AwareDatetime
    released: bool = False


@dataclass(frozen=True)
class Lease:
    """`renewed`: when the record was last written, in seconds of our monotonic clock."""

    key: str
    runner: Runner
    etag: str
    renewed: float


def acquire(
    store: Store,
    owner: Owner,
    now: datetime,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Lease:
    """Returns the lease of an experiment. If the holder is on another machine, it waits for up to LEASE_SECONDS.

    Raises Busy, StoreError (also for a record that cannot be read).
    """
    key = store_keys.runner_key(owner.experiment, owner.uid8)
    return acquire_key(store, key, owner.experiment, now, clock=clock, pause=pause)


def acquire_key(
    store: Store,
    key: str,
    what: str,
    now: datetime,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Lease:
    """Like `acquire`, for the record `key`. Messages name it `what`."""
    etag = _etag_once_free(store, key, what, clock, pause)
    me = Runner(
        host=os.uname().nodename,
        machine=machine(),
        pid=os.getpid(),
        identity=identity(os.getpid()) or "",
        heartbeat=now,
    )
    began = clock()
    try:
        return Lease(key, me, store.put_if(key, me.to_json(), etag), began)
    except AlreadyExists as error:
        raise Busy(f"another process started to run {what} at the same moment") from error


def renew(store: Store, lease: Lease, now: datetime, *, clock: Callable[[], float] = time.monotonic) -> Lease:
    """Returns the lease with a new heartbeat, if RENEW_SECONDS have passed. Raises LeaseLost, StoreError."""
    began = clock()
    if began - lease.renewed < RENEW_SECONDS:
        return lease
    return _put(store, lease, lease.runner.model_copy(update={"heartbeat": now}), began)


def release(store: Store, lease: Lease) -> None:
    """Raises LeaseLost, StoreError."""
    _put(store, lease, lease.runner.model_copy(update={"released": True}), lease.renewed)


class OwnersWatch:
    """Finds experiments without a running `potstill run`, by reading their records again and again."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[Owner, tuple[str | None, float]] = {}
        """The etag of each record (None: the folder is deleted) and the time since which it has not changed."""

    def is_gone(self, owner: Owner) -> bool:
        """Returns whether `owner` has no running process. False for one that ran only in a cluster.

        Raises StoreError.
        """
        key = store_keys.runner_key(owner.experiment, owner.uid8)
        try:
            data, etag = self._store.get_with_etag(key)
        except NotFound:
            if self._store.head(store_keys.experiment_key(owner.experiment, owner.uid8)) is not None:
                self._seen.pop(owner, None)
                return False
            return self._unchanged_seconds(owner, None) >= DELETED_SECONDS
        try:
            runner = Runner.model_validate_json(data)
        except ValidationError:
            return self._unchanged_seconds(owner, etag) >= DELETED_SECONDS
        ended = _ended(runner)
        return self._unchanged_seconds(owner, etag) >= LEASE_SECONDS if ended is None else ended

    def _unchanged_seconds(self, owner: Owner, etag: str | None) -> float:
        now = self._clock()
        if owner not in self._seen or self._seen[owner][0] != etag:
            self._seen[owner] = (etag, now)
        return now - self._seen[owner][1]


def _etag_once_free(
    store: Store, key: str, what: str, clock: Callable[[], float], pause: Callable[[float], None]
) -> str | None:
    """Returns the record's etag when its holder has ended or is silent, None if there is no record. Raises Busy."""
    began: float | None = None
    first: str | None = None
    while True:
        runner, etag = _read(store, key)
        if runner is None:
            return None
        ended = _ended(runner)
        if ended:
            return etag
        if ended is False or (began is not None and etag != first):
            raise Busy(_describe(runner, what))
        if began is None:
            began, first = clock(), etag
            logger.warning(
                "process %d on %s ran %s, last seen at %s UTC: watching for up to %d s whether it still does",
                runner.pid,
                runner.host,
                what,
                f"{runner.heartbeat:%Y-%m-%d %H:%M:%S}",
                LEASE_SECONDS,
            )
        elif clock() - began >= LEASE_SECONDS:
            return etag
        pause(LOOK_SECONDS)


def _ended(runner: Runner) -> bool | None:
    """Returns whether the holder has ended; None if this is unknown because it is on another machine."""
    if runner.released:
        return True
    return identity(runner.pid) != runner.identity if runner.machine == machine() else None


def _describe(runner: Runner, what: str) -> str:
    return (
        f"{what} is being run by process {runner.pid} on {runner.host} (last seen at "
        f"{runner.heartbeat:%Y-%m-%d %H:%M:%S} UTC): wait for it, or end it first"
    )


def _put(store: Store, lease: Lease, runner: Runner, renewed: float) -> Lease:
    try:
        return Lease(lease.key, runner, store.put_if(lease.key, runner.to_json(), lease.etag), renewed)
    except AlreadyExists as error:
        raise LeaseLost(f"{lease.key} was taken over by another process, or deleted") from error


def _read(store: Store, key: str) -> tuple[Runner, str] | tuple[None, None]:
    try:
        data, etag = store.get_with_etag(key)
    except NotFound:
        return None, None
    try:
        return Runner.model_validate_json(data), etag
    except ValidationError as error:
        raise StoreError(
            f"{store.url}/{key} cannot be read ({error.error_count()} errors), so that it is not known who runs it: "
            "if no process does, delete this file and run again"
        ) from error
