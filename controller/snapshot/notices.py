"""The notices of all running attempts, read with one LIST for all experiments of a controller.

A program overwrites its attempt's notice after each commit. A notice is a hint: a changed ETag only says that a unit
should be listed now. A notice that is lost, late or forged costs a LIST or some minutes. The unit of an attempt without
a notice (of an older program, or one that may not write there) is listed every round.
"""

import logging
import re
import threading
from collections.abc import Collection, Iterable
from itertools import islice

from workloads.api import store_keys
from workloads.api.units import UnitRef
from workloads.storage.base import ObjectInfo, Store, StoreError

NOTICE_KEY = re.compile(rf"{store_keys.NOTICES}([a-z]{{1,12}})/([0-9a-f]{{64}})/([1-9][0-9]{{0,8}})\.json")
MOST_NOTICES = 20_000
"""The largest number of notices read in one refresh. Attempts with a later notice count as attempts without one."""
OLD_SECONDS = 6 * 3600.0
"""A notice that has not changed for this long is deleted. A program writes its own again every hour."""
MOST_DELETED = 20
"""The largest number of old notices that one `refresh` deletes."""

Follower = tuple[str, str]
"""(namespace, name) of an Experiment."""
Notices = frozenset[tuple[int, str]]
"""(attempt's number, ETag) of each notice of a unit."""

logger = logging.getLogger("potstill")


class NoticeBoard:
    """The last listed notices, and which Experiments follow which units. Safe for any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._notices: dict[UnitRef, Notices] = {}
        self._followers: dict[UnitRef, set[Follower]] = {}
        self._followed: dict[Follower, frozenset[UnitRef]] = {}

    def refresh(self) -> frozenset[Follower]:
        """Lists the notices again. Returns the followers of units with a new or changed notice. Raises StoreError."""
        infos = list(islice(self._store.list(store_keys.NOTICES), MOST_NOTICES))
        found = _by_unit(infos)
        with self._lock:
            before, self._notices = self._notices, found
            changed = [unit for unit, notices in found.items() if notices - before.get(unit, frozenset())]
            woken = {follower for unit in changed for follower in self._followers.get(unit, ())}
        self._delete_old(infos)
        return frozenset(woken)

    def of(self, unit: UnitRef) -> Notices:
        with self._lock:
            return self._notices.get(unit, frozenset())

    def has(self, unit: UnitRef, number: int) -> bool:
        """Returns whether the attempt's program writes notices."""
        return any(noticed == number for noticed, _ in self.of(unit))

    def follow(self, follower: Follower, units: Collection[UnitRef]) -> None:
        """From now on `refresh` returns `follower` for changes of these units only."""
        wanted = frozenset(units)
        with self._lock:
            before = self._followed.get(follower, frozenset())
            for unit in before - wanted:
                self._remove(unit, follower)
            for unit in wanted - before:
                self._followers.setdefault(unit, set()).add(follower)
            self._followed[follower] = wanted

    def unfollow(self, follower: Follower) -> None:
        with self._lock:
            for unit in self._followed.pop(follower, frozenset()):
                self._remove(unit, follower)

    def _remove(self, unit: UnitRef, follower: Follower) -> None:
        followers = self._followers[unit]
        followers.discard(follower)
        if not followers:
            del self._followers[unit]

    def _delete_old(self, infos: Iterable[ObjectInfo]) -> None:
        """Deletes old notices. Age is relative to the youngest notice, so that a stopped cluster deletes nothing."""
        youngest = max((info.modified for info in infos), default=0.0)
        old = (info.key for info in infos if youngest - info.modified > OLD_SECONDS)
        for key in islice(old, MOST_DELETED):
            try:
                self._store.delete(key)
            except ValueError:
                continue  # a key that Potstill does not write
            except StoreError as error:
                logger.info("an old notice was not deleted: %s", error)
                return


def _by_unit(infos: Iterable[ObjectInfo]) -> dict[UnitRef, Notices]:
    """Leaves out keys that no program of Potstill writes."""
    found: dict[UnitRef, set[tuple[int, str]]] = {}
    for info in infos:
        if parts := NOTICE_KEY.fullmatch(info.key):
            unit = UnitRef(kind=parts[1], digest=parts[2])
            found.setdefault(unit, set()).add((int(parts[3]), info.etag))
    return {unit: frozenset(notices) for unit, notices in found.items()}


def delete_notice(store: Store, unit: UnitRef, number: int) -> None:
    """Deletes the notice of a closed attempt. If this fails, `refresh` or `potstill gc` deletes it later."""
    if store.url.startswith("file:"):
        return  # programs write no notices to such a store
    try:
        store.delete(store_keys.notice_key(unit, number))
    except StoreError as error:
        logger.info("the notice of a closed attempt was not deleted: %s", error)
