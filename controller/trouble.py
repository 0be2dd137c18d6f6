"""Errors that stop a run from continuing: the wait before the next try, and when waiting cannot help."""

from dataclasses import dataclass

from pydantic import BaseModel

from controller.planner.actions import Status
from workloads.api.manifest import Manifest
from workloads.api.model import schema_version_of
from workloads.storage.base import StoreError

LONGEST_WAIT_SECONDS = 30.0
ROUNDS = 8
"""After this many rounds in a row with trouble that only a user can solve, `potstill run` ends (after at least a
minute).
"""
LASTING = frozenset({"StoreRegressed"})


class NewerRecord(StoreError):
    """A later version of Potstill wrote the record: this one must not overwrite it."""


@dataclass(frozen=True)
class Trouble:
    """`kind` is the same for the same trouble, whose messages may differ. `lasting`: only a user can solve it."""

    kind: str
    message: str
    lasting: bool = False


def trouble_of_status(status: Status) -> Trouble | None:
    """Returns the trouble if the round saw no snapshot: the status then has no lines."""
    if status.runs or status.evaluations or not status.conditions:
        return None
    condition = status.conditions[0]
    return Trouble(condition.reason, f"{condition.reason}: {condition.message}", condition.reason in LASTING)


def trouble_of_error(doing: str, error: Exception) -> Trouble:
    """`doing`: the operation that failed."""
    return Trouble(f"{doing} {type(error).__name__}", f"{doing}: {error}", isinstance(error, NewerRecord))


def wait_seconds(rounds: int, poll_seconds: float) -> float:
    """Returns the seconds before the next round, after `rounds` (1 or more) in a row with trouble.

    It doubles up to LONGEST_WAIT_SECONDS.
    """
    return max(poll_seconds, min(poll_seconds * 2.0 ** (rounds - 1), LONGEST_WAIT_SECONDS))


def refuse_newer_manifest(key: str, data: bytes) -> None:
    """Raises NewerRecord if a later version wrote the existing manifest."""
    refuse_newer(Manifest, key, data)


def refuse_newer(model: type[BaseModel], key: str, data: bytes) -> None:
    """Raises NewerRecord if `data` has a greater schemaVersion than `model`."""
    standing, own = schema_version_of(data), model.model_fields["schema_version"].default
    if standing is not None and standing > own:
        raise NewerRecord(
            f"{key} has schemaVersion {standing}, this potstill writes {own}: use the newest potstill that writes to "
            "this store"
        )
