"""One round of one Experiment: accept the spec, read the state, decide, act, and write the status once."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.events import EventLog
from controller.executors.kubernetes.acceptance import Accepted, Refused, accept, uid8_of
from controller.executors.kubernetes.accepted_cache import AcceptedCache
from controller.executors.kubernetes.api import MERGE_PATCH, Api, ApiError, ApiUnreachable
from controller.executors.kubernetes.executor import KubernetesExecutor, Watched
from controller.executors.kubernetes.gating import gate_condition
from controller.executors.kubernetes.metrics import Metrics
from controller.executors.kubernetes.names import RETRY_ANNOTATION
from controller.executors.kubernetes.refusals import Refusals
from controller.executors.kubernetes.status import (
    FIELDS,
    cut_bytes,
    recorded_counts,
    refused_status,
    running_status,
    store_changed_status,
    store_unavailable_status,
    transitions,
    without_foreign_status,
)
from controller.experiment.profile import Profile
from controller.planner.actions import Decision, Intent, Status
from controller.planner.unit_state import REFUSED
from controller.retry import retry
from controller.rounds import Rounds
from controller.snapshot.listing import ByNotice, ListBudget
from controller.snapshot.notices import NoticeBoard
from workloads.api import store_keys
from workloads.api.manifest import Manifest
from workloads.api.tasks import Owner
from workloads.storage.base import Store, StoreError

Json = dict[str, Any]
logger = logging.getLogger("potstill.reconcile")
CHANGE_SOON = frozenset({"BackingOff", "Gathering", "WeightsArriving", "Stopping"})
"""Reasons of the states of runs and evaluations, not of conditions. These states end after some seconds. No event
reports this end, so another round is needed soon.
"""
NORMAL = frozenset({"Suspended", "Finished", "Queued"})
"""Reasons of Progressing=False that need no action of the user."""
WARNINGS = frozenset(
    {
        *("Failed", "PartiallyFailed", "InvalidSpec", "UnknownProfile", "ImmutableField", "StoreRegressed"),
        *("StoreChanged", "StoreUnavailable"),
    }
)
"""Reasons of any condition whose Event has the type Warning. StoreRegressed: the store has fewer results than before.
StoreChanged: the results are in another store.
"""
STALE_REVISION = -1
"""A number that no revision of an accepted experiment has, so that the next round makes a new Rounds object. Revisions
count from 1; each addition to the experiment makes the next one.
"""
NOTE_BYTES = 1024
"""The API server's limit for an Event's note."""


class Dropped(Exception):
    """Another writer changed the Experiment or one of its units during the round, so its decision is out of date. What
    the round did before stays done. The caller runs another one.
    """


class Reconciler:
    """Runs rounds. Its caches can all be read again, so a restart only costs time.

    `board` has the notices: small objects that running programs overwrite in the store after each commit, so that only
    units with a changed notice must be listed. `require_store` raises StoreError if the last check of the store failed;
    a round then must not read it. `watched` has the Jobs, pods and Experiments of the namespace as last reported, and
    the limit on its evaluation pods. `writer` is a name that is unique to this process.
    """

    def __init__(
        self,
        api: Api,
        watched: Watched,
        store: Store,
        profiles: Mapping[str, Profile],
        clock: Callable[[], datetime],
        writer: str,
        metrics: Metrics,
        board: NoticeBoard,
        require_store: Callable[[], None],
    ) -> None:
        self._api = api
        self._watched = watched
        self._store = store
        self._profiles = dict(profiles)
        self._clock = clock
        self._writer = writer
        self._metrics = metrics
        self._board = board
        self._require_store = require_store
        self._list_budget = ListBudget()  # LISTs per second of all Experiments, for units without a sign of change
        self._rounds: dict[str, tuple[int, Rounds, EventLog]] = {}  # by the Experiment's UID: (revision, ...)
        self._job_refusals: dict[str, Refusals] = {}  # by the Experiment's UID: Jobs that the API server refused
        self._listings: dict[str, ByNotice] = {}
        self._quiet: set[str] = set()
        self._accepted = AcceptedCache(time.monotonic)

    @property
    def experiments(self) -> int:
        """The number of Experiments that have had a round and are not finished."""
        return len(self._rounds)

    def is_quiet(self, item: Json) -> bool:
        """Returns whether the Experiment needs no other round soon, unless something happens to it."""
        return item["metadata"]["uid"] in self._quiet

    def reconcile(self, item: Json) -> Status | None:
        """Runs one round. Returns None without a decision: the Experiment is finished, being deleted or refused, or the
        store's URL has changed since its last round.

        Raises StoreError (after it wrote the condition Ready=Unknown), Dropped, ApiError, ApiUnreachable.
        """
        item = without_foreign_status(item)  # for example one that a backup restored onto a new object
        try:
            return self._round(item)
        except StoreError as error:
            self._write_status(item, store_unavailable_status(item, str(error), self._clock()))
            raise

    def _round(self, item: Json) -> Status | None:
        if item["metadata"].get("deletionTimestamp") or _is_finished(item):
            self._forget(item)
            return None
        root = self._store.url.rstrip("/")
        if item.get("status", {}).get("store", root) != root:
            self._write_status(item, store_changed_status(item, root, self._clock()))
            return None
        self._require_store()
        try:
            accepted = self._accepted.get(item) or accept(item, self._profiles, self._store, self._clock())
        except Refused as refusal:
            self._write_status(item, refused_status(item, refusal.reason, str(refusal), self._clock()))
            return None
        self._accepted.keep(item, accepted)
        retry_value = self._retry(item, accepted)
        rounds, events = self._rounds_of(item, accepted)
        intent: Intent = "suspend" if item["spec"].get("suspend") else "run"
        decision = rounds.next(intent, self._clock)
        if rounds.trouble is not None:
            logger.warning("%s/%s: %s", *_key(item), rounds.trouble.message)
        try:
            events.flush()
        except StoreError as error:
            logger.warning("%s", error)
        links = self._links(accepted) | retry_value
        self._note_quiet(item, rounds, decision)
        self._metrics.experiment(_key(item), decision.status, accepted.frozen, rounds.seen)
        status = self._with_gate(accepted, decision.status)
        self._write_status(item, running_status(item, status, links, accepted.frozen.revision, self._clock()))
        if rounds.lost_race:
            raise Dropped("another writer changed one of its units first")
        return status

    def gone(self, item: Json) -> None:
        """Cleans up after a deleted Experiment. With deletionPolicy Delete it tries once to delete the Experiment's
        folder.

        Other experiments may use the same units: `potstill gc` deletes those that no experiment names. Raises
        StoreError.
        """
        self._forget(item)
        self._metrics.forget(_key(item))
        if item["spec"].get("deletionPolicy") == "Delete":
            for found in self._store.list(store_keys.experiment_prefix(item["metadata"]["name"], uid8_of(item))):
                self._store.delete(found.key)

    def _forget(self, item: Json) -> None:
        """Drops all caches of the Experiment, and its place in the namespace's queue for evaluation pods."""
        uid = item["metadata"]["uid"]
        self._rounds.pop(uid, None)
        self._job_refusals.pop(uid, None)
        self._accepted.forget(uid)
        self._quiet.discard(uid)
        listing = self._listings.pop(uid, None)
        if listing is not None:
            listing.close()
        self._watched.limit.forget(Owner(experiment=item["metadata"]["name"], uid8=uid8_of(item)))

    def _with_gate(self, accepted: Accepted, status: Status) -> Status:
        """Returns `status` with the condition GatePassed, if the experiment has a gate. Raises StoreError.

        A status without runs is of a round that could not read the store or the Jobs: it stays as it is.
        """
        frozen = accepted.frozen
        if frozen.gate is None or not status.runs:
            return status
        manifest = None
        if status.finished is not None:
            data = self._store.get(store_keys.manifest_key(frozen.name, frozen.uid8))
            manifest = Manifest.model_validate_json(data)
        return replace(status, conditions=(*status.conditions, gate_condition(frozen.gate, manifest)))

    def _retry(self, item: Json, accepted: Accepted) -> dict[str, str]:
        """Applies each new value of the retry annotation once. Returns the value as the status's field `retried`."""
        asked = _retry_asked(item)
        if asked is None:
            return {}
        if asked != item.get("status", {}).get("retried"):
            for unit in retry(accepted.frozen, self._store):
                logger.info("%s/%s: %s may be tried again (%s)", *_key(item), unit.unit, unit.reason)
            kept = self._rounds.get(item["metadata"]["uid"])
            if kept is not None:
                self._rounds[item["metadata"]["uid"]] = (STALE_REVISION, *kept[1:])
                self._listings[item["metadata"]["uid"]].forget_all()
        return {"retried": asked}

    def _rounds_of(self, item: Json, accepted: Accepted) -> tuple[Rounds, EventLog]:
        """Returns the experiment's Rounds, and the log in the store with its actions and their reasons.

        A new Rounds object is made after an addition to the experiment or a retry. It has a new executor, which tries
        failed downloads of the base's weights again.
        """
        uid, frozen = item["metadata"]["uid"], accepted.frozen
        kept = self._rounds.get(uid)
        if kept is not None and kept[0] == frozen.revision:
            return kept[1], kept[2]
        namespace = item["metadata"]["namespace"]
        executor = KubernetesExecutor(
            self._api,
            self._watched,
            namespace,
            item,
            frozen,
            accepted.profile,
            self._job_refusals.setdefault(uid, Refusals(self._clock)),
            # The API server may have refused an earlier controller the Job of any task that was written until now. Such
            # a task without a Job did not lose it, however old the task is: the planner asks for its Job again.
            refused_before=self._clock() if kept is None and _was_refused(item) else None,
        )
        events = kept[2] if kept else EventLog(self._store, frozen.name, frozen.uid8, self._writer)
        listing = self._listings.setdefault(uid, ByNotice(self._board, self._list_budget, _key(item)))
        rounds = Rounds(frozen, self._store, executor, events, recorded_counts(item), listing)
        self._rounds[uid] = (frozen.revision, rounds, events)
        return rounds, events

    def _note_quiet(self, item: Json, rounds: Rounds, decision: Decision) -> None:
        """Records whether the Experiment is quiet: only a notice, a change of a Job or some minutes of time can change
        the next decision. It is not quiet while its listing polls, because some units must be listed in each round,
        nor when it has just finished: the next round drops its caches.
        """
        uid = item["metadata"]["uid"]
        status = decision.status
        reasons = {line.reason for line in status.runs} | {line.reason for line in status.evaluations}
        needs_round = decision.actions or rounds.trouble is not None or self._listings[uid].polls
        if needs_round or reasons & CHANGE_SOON or status.finished is not None:
            self._quiet.discard(uid)
        else:
            self._quiet.add(uid)

    def _links(self, accepted: Accepted) -> dict[str, str]:
        name, uid8 = accepted.frozen.name, accepted.frozen.uid8
        root = self._store.url.rstrip("/")
        return {
            "store": root,
            "manifest": f"{root}/{store_keys.manifest_key(name, uid8)}",
            "report": f"{root}/{store_keys.report_prefix(name, uid8)}index.html",
        }

    def _write_status(self, item: Json, status: Json) -> None:
        """Writes the status if no other writer has changed it since the object was read. The rest of the object may
        have changed.

        Raises Dropped if the status has changed or the object changes again, ApiError, ApiUnreachable.
        """
        if status == item.get("status"):
            return
        patch = {field: status.get(field) for field in FIELDS}  # null removes a field that the status no longer has
        path, uid, before = f"{_path(item)}/status", item["metadata"]["uid"], item.get("status")
        version = item["metadata"]["resourceVersion"]
        for attempt in ("first", "last"):
            body = {"metadata": {"uid": uid, "resourceVersion": version}, "status": patch}
            try:
                written = self._api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
                break
            except ApiError as error:
                if error.status == 404:
                    return
                if error.status != 409:
                    raise
                current = self._current(item)
                if current is None:
                    return
                if attempt == "last" or current["metadata"]["uid"] != uid or current.get("status") != before:
                    raise Dropped(f"it was changed during the round: {error.message}") from error
                version = current["metadata"]["resourceVersion"]
        for condition in transitions(item, status["conditions"]):
            self._event(item, condition)
        item["status"] = status
        item["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"]

    def _current(self, item: Json) -> Json | None:
        """Returns the current object of this name; None if there is none."""
        try:
            return self._api.request("GET", _path(item))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _event(self, item: Json, condition: Json) -> None:
        """Posts an Event for a condition that changed, so that `kubectl describe` shows the history.

        If the API server does not take it, this is only logged.
        """
        namespace, now = item["metadata"]["namespace"], self._clock()
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{item['metadata']['name']}-", "namespace": namespace},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "potstill.dev/controller",
            "reportingInstance": self._writer[:128],
            "action": condition["type"],
            "reason": condition["reason"][:128],
            "note": cut_bytes(f"{condition['type']} is {condition['status']}: {condition['message']}", NOTE_BYTES),
            "type": "Warning" if _is_warning(condition) else "Normal",
            "regarding": {
                "apiVersion": item["apiVersion"],
                "kind": item["kind"],
                "name": item["metadata"]["name"],
                "namespace": namespace,
                "uid": item["metadata"]["uid"],
            },
        }
        try:
            self._api.request("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body=event)
        except (ApiError, ApiUnreachable) as error:
            logger.warning("%s/%s: an Event was not written: %s", *_key(item), error)


def _is_warning(condition: Json) -> bool:
    held_up = (condition["type"], condition["status"]) == ("Progressing", "False") and condition["reason"] not in NORMAL
    return held_up or condition["reason"] in WARNINGS


def _was_refused(item: Json) -> bool:
    """Returns whether the last status says that the API server refused one of the Jobs."""
    conditions = item.get("status", {}).get("conditions", [])
    return any((c["type"], c["status"], c["reason"]) == ("Progressing", "False", REFUSED) for c in conditions)


def _key(item: Json) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _retry_asked(item: Json) -> str | None:
    asked: str | None = item["metadata"].get("annotations", {}).get(RETRY_ANNOTATION)
    return asked


def _path(item: Json) -> str:
    metadata = item["metadata"]
    return f"/apis/{item['apiVersion']}/namespaces/{metadata['namespace']}/experiments/{metadata['name']}"


def _is_finished(item: Json) -> bool:
    """Returns whether this generation of the Experiment is finished. After an edit of the spec or a retry it is not."""
    if _retry_asked(item) not in (None, item.get("status", {}).get("retried")):
        return False
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == "Finished" and condition["status"] == "True":
            return bool(condition.get("observedGeneration") == item["metadata"]["generation"])
    return False
