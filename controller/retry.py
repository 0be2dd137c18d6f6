"""Retries requested by a user: earlier attempts no longer count."""

from collections.abc import Collection
from dataclasses import dataclass

from controller.planner.added_stages import all_units
from controller.planner.evaluations import resolve_evaluations
from controller.planner.retry_policy import retry_state
from controller.planner.round import owner_of
from controller.snapshot.reader import SnapshotReader
from controller.snapshot.types import StoreSnapshot, Unknown
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.model import sha256_of
from workloads.api.units import ReportInputs, UnitRef, unit_of
from workloads.storage.base import NotFound, Store, StoreError


@dataclass(frozen=True)
class Retried:
    """`reason`: why the unit was given up."""

    unit: UnitRef
    attempts: int
    reason: str


def retry(frozen: FrozenExperiment, store: Store, only: Collection[UnitRef] = ()) -> tuple[Retried, ...]:
    """Allows new attempts of every unit that was given up (or those of `only`). Returns these units.

    Running attempts continue. Raises StoreError.
    """
    seen = SnapshotReader(store).read(frozen, None)
    if isinstance(seen, Unknown):
        raise StoreError(seen.message)
    units = [*all_units(frozen, resolve_evaluations(frozen, seen), seen), *_report(frozen, store)]
    retried_units = []
    for unit in units:
        if only and unit not in only:
            continue
        retried = _retry(frozen, store, seen, unit)
        if retried is not None:
            retried_units.append(retried)
    return tuple(retried_units)


def _retry(frozen: FrozenExperiment, store: Store, seen: StoreSnapshot, unit: UnitRef) -> Retried | None:
    view = seen.unit(unit) if unit in seen.units else SnapshotReader(store).unit(unit)
    exhausted = retry_state(view, owner_of(frozen), frozen.limits).exhausted
    if view.done or exhausted is None:
        return None
    number = view.next_number - 1
    store.put_new(store_keys.retry_key(unit, number), b"{}\n")
    return Retried(unit, number, exhausted.message)


def _report(frozen: FrozenExperiment, store: Store) -> tuple[UnitRef, ...]:
    """Returns the report of the current manifest."""
    try:
        data = store.get(store_keys.manifest_key(frozen.name, frozen.uid8))
    except NotFound:
        return ()
    return (unit_of(ReportInputs(manifest_content=sha256_of(data))),)
