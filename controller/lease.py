"""One `potstill run` of an experiment at a time: a lease in the store, by compare-and-set, that survives kill -9.

On one machine the holder is known by its process, so that a killed one is replaced at once. Elsewhere it is known by
its heartbeat, and taken for gone when that is older than LEASE_SECONDS.
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime

from controller.executors.launch import identity, machine
from workloads.contract import layout
from workloads.contract.model import Contract
from workloads.contract.tasks import Owner
from workloads.store import AlreadyExists, NotFound, Store

LEASE_SECONDS = 60.0
RENEW_SECONDS = 15.0


class Busy(Exception):
    """Another process runs the experiment; the message says which and where."""


class LeaseLost(Exception):
    """Another process took the experiment over while this one was not heard of."""


class Runner(Contract):
    """Who runs an experiment. `identity` tells its process from a later one of the same number."""

    schema_version: Literal[1] = 1
    host: str
    machine: str
    pid: int
    identity: str
    heartbeat: AwareDatetime
    released: bool = False


@dataclass(frozen=True)
class Lease:
    key: str
    runner: Runner
    etag: str


def acquire(store: Store, owner: Owner, now: datetime) -> Lease:
    """Raises Busy, StoreError."""
    key = layout.runner_key(owner.experiment, owner.uid8)
    standing, etag = _read(store, key)
    if standing is not None and not _gone(standing, now):
        raise Busy(_describe(standing, owner))
    me = Runner(
        host=os.uname().nodename,
        machine=machine(),
        pid=os.getpid(),
        identity=identity(os.getpid()) or "",
        heartbeat=now,
    )
    try:
        return Lease(key, me, store.put_if(key, me.to_json(), etag))
    except AlreadyExists as error:
        raise Busy(f"another `potstill run` of {owner.experiment} started at the same moment") from error


def renew(store: Store, lease: Lease, now: datetime) -> Lease:
    """The lease with a new heartbeat, when that is due. Raises LeaseLost, StoreError."""
    if now - lease.runner.heartbeat < timedelta(seconds=RENEW_SECONDS):
        return lease
    return _put(store, lease, lease.runner.model_copy(update={"heartbeat": now}))


def release(store: Store, lease: Lease) -> None:
    """Raises LeaseLost, StoreError."""
    _put(store, lease, lease.runner.model_copy(update={"released": True}))


def is_gone(store: Store, owner: Owner, now: datetime) -> bool:
    """Whether nobody runs `owner`'s experiment. One that never ran outside a cluster is not known to be gone."""
    standing, _ = _read(store, layout.runner_key(owner.experiment, owner.uid8))
    return standing is not None and _gone(standing, now)


def _gone(runner: Runner, now: datetime) -> bool:
    if runner.released:
        return True
    if runner.machine == machine():
        return identity(runner.pid) != runner.identity
    return now - runner.heartbeat > timedelta(seconds=LEASE_SECONDS)


def _describe(runner: Runner, owner: Owner) -> str:
    return (
        f"{owner.experiment} is being run by process {runner.pid} on {runner.host} (last heard of at "
        f"{runner.heartbeat:%Y-%m-%d %H:%M:%S} UTC): wait for it, or end it first"
    )


def _put(store: Store, lease: Lease, runner: Runner) -> Lease:
    try:
        return Lease(lease.key, runner, store.put_if(lease.key, runner.to_json(), lease.etag))
    except AlreadyExists as error:
        raise LeaseLost(f"{lease.key} was taken over by another process") from error


def _read(store: Store, key: str) -> tuple[Runner, str] | tuple[None, None]:
    try:
        data, etag = store.get_with_etag(key)
    except NotFound:
        return None, None
    return Runner.model_validate_json(data), etag
