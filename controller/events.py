"""The log of actions and their reasons: one line for each action.

Each process writes one object in the experiment's folder.
"""

import json
from datetime import datetime

from controller.planner.actions import (
    Action,
    CloseTask,
    Discard,
    FetchWeights,
    OfferTask,
    Start,
    Stop,
    WriteManifest,
    WritePointers,
    WriteTask,
)
from controller.snapshot.types import WEIGHTS
from workloads.api import store_keys
from workloads.storage.base import Store


class EventLog:
    """The log of one process, in memory. An object store cannot append, so `flush` writes the whole object.

    `writer` is unique to the process.
    """

    def __init__(self, store: Store, name: str, uid8: str, writer: str) -> None:
        self._store = store
        self._key = store_keys.events_key(name, uid8, writer)
        self._lines: list[str] = []
        self._written = 0

    def add(self, action: Action, now: datetime) -> None:
        event = {
            "time": now.isoformat(),
            "action": type(action).__name__,
            "subject": subject_of(action),
            "reason": action.why.reason,
            "message": action.why.message,
        }
        self._lines.append(json.dumps(event, ensure_ascii=False))

    def flush(self) -> None:
        """Writes the lines added since the last call. Raises StoreError; the next call then writes them again."""
        if len(self._lines) > self._written:
            self._store.put(self._key, ("\n".join(self._lines) + "\n").encode())
            self._written = len(self._lines)


def subject_of(action: Action) -> str:
    """Returns the key of the action's task. An action without a task returns the name of its object."""
    match action:
        case WriteTask(task=task) | WritePointers(task=task) | Start(task=task) | OfferTask(task=task):
            return task.key
        case CloseTask(unit=unit, end=end):
            return store_keys.task_key(unit, end.number)
        case Stop(key=key) | Discard(key=key):
            return key
        case FetchWeights():
            return WEIGHTS
        case WriteManifest():
            return "manifest.json"
