"""Performs actions in order, one at a time.

Every write is a compare-and-set, so two controllers may run at the same time.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.executors.base import Executor
from controller.planner.actions import (
    Action,
    CloseTask,
    Discard,
    EvaluationLine,
    FetchWeights,
    OfferTask,
    RunLine,
    Start,
    Stop,
    WriteManifest,
    WritePointers,
    WriteTask,
    stored_state,
)
from controller.snapshot.notices import delete_notice
from controller.snapshot.types import Folded
from controller.trouble import refuse_newer_manifest
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.model import sha256_of
from workloads.api.tasks import MemberPointer, Offer, pointers
from workloads.results.manifest import EvaluationPart, EvaluationParts, fold
from workloads.storage.base import AlreadyExists, NotFound, Store

logger = logging.getLogger("potstill")


@dataclass(frozen=True)
class Acted:
    """`lost_race`: another writer was first, so the store must be read again before the next action."""

    lost_race: bool = False
    folded: Folded | None = None


def act(action: Action, frozen: FrozenExperiment, store: Store, executor: Executor, now: datetime) -> Acted:
    """Raises StoreError (NewerRecord for a manifest of a later version), and what the executor raises.

    The round then ends, and the next round reads the results.
    """
    match action:
        case WriteTask(task=task):
            return _put_new(store, task.key, task.to_json())
        case WritePointers(task=task):
            for pointer in pointers(task):
                _put_pointer(store, pointer)
        case OfferTask(host=host, sequence=sequence, task=task):
            key = store_keys.offer_key(host.unit, host.number, sequence)
            return _put_new(store, key, Offer(task_key=task.key).to_json())
        case CloseTask(unit=unit, end=end):
            acted = _put_new(store, store_keys.end_key(unit, end.number), end.to_json())
            delete_notice(store, unit, end.number)
            return acted
        case Start(task=task):
            closed, _ = _read(
                store, store_keys.end_key(task.unit, task.number)
            )  # HEAD of an absent key is two S3 requests
            if closed is not None:
                return Acted(lost_race=True)
            executor.start(task)
        case Stop(key=key):
            executor.stop(key)
        case Discard(key=key):
            executor.discard(key)
        case FetchWeights():
            executor.fetch_weights()
        case WriteManifest():
            return _write_manifest(action, frozen, store, now)
    return Acted()


def _put_new(store: Store, key: str, data: bytes) -> Acted:
    try:
        store.put_new(key, data)
    except AlreadyExists:
        logger.info("%s was written by another writer first", key)
        return Acted(lost_race=True)
    return Acted()


def _put_pointer(store: Store, pointer: MemberPointer) -> None:
    """If another writer took a member's number, the member is not in the group and the program leaves it out."""
    if _put_new(store, pointer.key, pointer.to_json()).lost_race:
        logger.info("%s is not in the group of %s/%d", pointer.unit, pointer.lead, pointer.lead_number)


def _write_manifest(action: WriteManifest, frozen: FrozenExperiment, store: Store, now: datetime) -> Acted:
    folding = fold(frozen, store, EvaluationParts(action.state, _pieces(action.runs), _pieces(action.evaluations)))
    data = folding.manifest.to_json()
    key = store_keys.manifest_key(frozen.name, frozen.uid8)
    standing, etag = _read(store, key)
    if standing is not None:
        refuse_newer_manifest(key, standing)
    if standing != data:
        try:
            store.put_if(key, data, etag)
        except AlreadyExists:
            return Acted(lost_race=True)
    return Acted(folded=Folded(action.of, sha256_of(data), action.grades, now, folding.corrupt))


def _read(store: Store, key: str) -> tuple[bytes, str] | tuple[None, None]:
    try:
        return store.get_with_etag(key)
    except NotFound:
        return None, None


def _pieces(lines: Sequence[RunLine] | Sequence[EvaluationLine]) -> Mapping[str, EvaluationPart]:
    """Returns states by run name or evaluation id.

    The manifest gets only the reason of a failure: other reasons change every minute.
    """
    named = {(line.name if isinstance(line, RunLine) else line.id): line for line in lines}
    return {
        name: EvaluationPart(stored_state(line.state), line.message if line.state == "failed" else None)
        for name, line in named.items()
    }
