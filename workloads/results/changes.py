"""The units that two experiments do not share, and the fields that cause it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from workloads.results.asked import CHECKPOINT, OUTPUTS, STATE, AskedUnit
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.train import TRAIN

KINDS = tuple(stage.unit_kind for stage in (TRAIN, GENERATE, GRADE))
Standing = Literal["same", "changed", "added", "removed"]


@dataclass(frozen=True)
class Change:
    """`stated`: False on the side without the field. A field for a result has no values."""

    path: str
    old: JsonValue = None
    new: JsonValue = None
    old_stated: bool = True
    new_stated: bool = True


@dataclass(frozen=True)
class UnitChange:
    """`because`: empty if the digests differ and no known field does."""

    kind: str
    name: str
    standing: Standing
    old_digest: str | None
    new_digest: str | None
    because: tuple[Change, ...] = ()


@dataclass(frozen=True)
class ChangeGroup:
    """Units of one kind with the same difference for the same reasons."""

    kind: str
    standing: Standing
    names: tuple[str, ...]
    because: tuple[Change, ...]


def field_changes(old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> tuple[Change, ...]:
    """Returns changes in the old order, then new fields."""
    paths = dict.fromkeys((*old, *new))
    return tuple(
        Change(path)
        if path in (CHECKPOINT, OUTPUTS)
        else Change(path, old.get(path), new.get(path), path in old, path in new)
        for path in paths
        if (path in old, old.get(path)) != (path in new, new.get(path))
    )


def unit_changes(
    old: Iterable[AskedUnit], new: Iterable[AskedUnit], place: Callable[[str], str] = str
) -> tuple[UnitChange, ...]:
    """Compares units with the same kind and name. `place` returns where the file states a field."""
    before, after = ({(unit.kind, unit.name): unit for unit in side} for side in (old, new))
    return tuple(_change(before.get(key), after.get(key), place) for key in dict.fromkeys((*before, *after)))


def _change(old: AskedUnit | None, new: AskedUnit | None, place: Callable[[str], str]) -> UnitChange:
    known = new or old
    assert known is not None
    digests = (old.digest if old else None, new.digest if new else None)
    if old is None or new is None:
        return UnitChange(known.kind, known.name, "added" if old is None else "removed", *digests)
    because = field_changes(
        {place(path): value for path, value in old.fields.items()},
        {place(path): value for path, value in new.fields.items()},
    )
    because = tuple(change for change in because if change.path == STATE) or because  # a missing unit states no fields
    same = digests[0] == digests[1] if None not in digests else not because
    if same:
        return UnitChange(known.kind, known.name, "same", *digests)
    return UnitChange(known.kind, known.name, "changed", *digests, because)


def grouped(changes: Iterable[UnitChange]) -> tuple[ChangeGroup, ...]:
    """Returns groups by kind in the order of the work, then by reason, in the order of the first occurrence."""
    found: dict[tuple[str, Standing, str], list[UnitChange]] = {}
    for change in changes:
        found.setdefault((change.kind, change.standing, repr(change.because)), []).append(change)
    ordered = sorted(found.items(), key=lambda item: KINDS.index(item[0][0]))
    return tuple(
        ChangeGroup(kind, standing, tuple(member.name for member in members), members[0].because)
        for (kind, standing, _), members in ordered
    )
