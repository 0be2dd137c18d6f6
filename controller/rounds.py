"""Rounds of one experiment: take a snapshot, decide, apply the actions. For the local runner and the controller."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from controller.apply_actions import act
from controller.concerned import concerned_units
from controller.events import EventLog
from controller.executors.base import ActionRefused, Executor
from controller.planner.actions import Counts, Intent
from controller.planner.planner import Decision, decide
from controller.planner.round import owner_of
from controller.snapshot.listing import Listing
from controller.snapshot.reader import SnapshotReader
from controller.snapshot.types import Folded, JobsSnapshot, StoreSnapshot, Unknown
from controller.trouble import Trouble, trouble_of_error, trouble_of_status
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import Owner
from workloads.api.units import UnitRef
from workloads.storage.base import Store, StoreError

logger = logging.getLogger("potstill")


class _Unconfirmed(Exception):
    """A decision has actions on units that were not listed in its round."""

    def __init__(self, units: list[UnitRef]) -> None:
        super().__init__()
        self.units = units


class Rounds:
    """Observe, decide, act. Its state can all be read again: caches, the last manifest, the counts seen.

    `seen`: the last snapshot of the store. `trouble`: the error that ended the last round early. `lost_race`: another
    writer was first in that round.
    """

    def __init__(
        self,
        frozen: FrozenExperiment,
        store: Store,
        executor: Executor,
        events: EventLog,
        recorded: Counts | None = None,
        listing: Listing | None = None,
    ) -> None:
        """`listing`: decides which units are listed; None: all that are not done, in each round."""
        self._frozen = frozen
        self._store = store
        self._executor = executor
        self._events = events
        self._reader = SnapshotReader(store, listing)
        self._folded: Folded | None = None
        self._recorded = recorded or Counts()
        self.seen: StoreSnapshot | None = None
        self.trouble: Trouble | None = None
        self.lost_race = False

    def next(self, intent: Intent, clock: Callable[[], datetime]) -> Decision:
        """Makes a decision and performs its actions. If the store does not answer, the round ends and the next one
        tries again.

        If an action is refused, the others still run.
        """
        decision = self._decide(intent, clock())
        self.trouble, self.lost_race = trouble_of_status(decision.status), False
        self._reader.forget(concerned_units(decision.actions, self.seen or StoreSnapshot({})))
        for action in decision.actions:
            try:
                acted = act(action, self._frozen, self._store, self._executor, clock())
            except ActionRefused as error:
                logger.warning("%s", error)
                continue
            except (StoreError, OSError) as error:
                self.trouble = trouble_of_error(type(action).__name__, error)
                break
            self._events.add(action, clock())
            self._folded = acted.folded or self._folded
            if acted.lost_race:
                self.lost_race = True
                break
        return decision

    def _decide(self, intent: Intent, now: datetime) -> Decision:
        """Makes the decision. The executor is read before the store, because a Job that has ended wrote its markers
        before.

        Units that were not listed in this round may be outdated. This may delay an action. An action is decided only on
        units that were listed in the same round: otherwise they are listed, and the decision is made again.
        """
        jobs = self._executor.view()
        known = {} if isinstance(jobs, Unknown) else jobs.jobs
        seen = self._reader.read(self._frozen, self._folded, known)
        while True:
            try:
                return self._decide_on(jobs, seen, intent, now)
            except _Unconfirmed as error:
                seen = self._reader.confirm(self._frozen, self._folded, error.units)

    def _decide_on(
        self, jobs: JobsSnapshot | Unknown, seen: StoreSnapshot | Unknown, intent: Intent, now: datetime
    ) -> Decision:
        self.seen = seen if isinstance(seen, StoreSnapshot) else self.seen
        if isinstance(seen, StoreSnapshot) and not isinstance(jobs, Unknown):
            try:
                jobs = replace(jobs, gone_owners=self._executor.gone(_others(self._frozen, seen)))
            except StoreError as error:
                seen = Unknown("StoreUnavailable", str(error))
        if isinstance(jobs, Unknown):
            return decide(self._frozen, seen, jobs, now, intent, self._recorded)

        def decided(view: JobsSnapshot) -> Decision:
            """Raises _Unconfirmed before the executor records a decision that will be made again."""
            decision = decide(self._frozen, seen, view, now, intent, self._recorded)
            units = self._reader.unconfirmed(concerned_units(decision.actions, self.seen or StoreSnapshot({})))
            if units:
                raise _Unconfirmed(units)
            return decision

        decision = self._executor.admit(jobs, decided)
        if decision.status.evaluations or decision.status.runs:
            self._recorded = decision.status.counts
        return decision


def _others(frozen: FrozenExperiment, seen: StoreSnapshot) -> set[Owner]:
    owner = owner_of(frozen)
    tasks = (attempt.task for view in seen.units.values() for attempt in view.open_attempts)
    return {task.owner for task in tasks if task.owner != owner}
