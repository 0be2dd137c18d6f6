"""One round of one Experiment: accept, observe, decide, act, and write the status once."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.decide.actions import Intent, Status
from controller.events import EventLog
from controller.kubernetes.acceptance import Accepted, Refused, accept, uid8_of
from controller.kubernetes.api import MERGE_PATCH, Api, ApiError
from controller.kubernetes.executor import KubernetesExecutor, Watched
from controller.kubernetes.gating import gate_condition
from controller.kubernetes.metrics import Metrics
from controller.kubernetes.names import RETRY_ANNOTATION
from controller.kubernetes.status import recorded_counts, refused_status, running_status, transitions, unseen_status
from controller.loop import Rounds
from controller.retry import retry
from controller.spec.profile import Profile
from workloads.contract import layout
from workloads.contract.manifest import Manifest
from workloads.contract.tasks import Owner
from workloads.store import Store, StoreError

Json = dict[str, Any]
logger = logging.getLogger("potstill.reconcile")
WARNINGS = frozenset({"Failed", "PartiallyFailed", "InvalidSpec", "UnknownProfile", "ImmutableField", "StoreRegressed"})


class Reconciler:
    """Keeps caches per experiment; all of it can be read again, so that a restart changes nothing but time."""

    def __init__(
        self,
        api: Api,
        watched: Watched,
        store: Store,
        profiles: Mapping[str, Profile],
        clock: Callable[[], datetime],
        writer: str,
        metrics: Metrics,
    ) -> None:
        self._api = api
        self._watched = watched
        self._store = store
        self._profiles = dict(profiles)
        self._clock = clock
        self._writer = writer
        self._metrics = metrics
        self._rounds: dict[str, tuple[int, Rounds, EventLog]] = {}

    def reconcile(self, item: Json) -> Status | None:
        """One round; None when there is nothing (more) to do.

        Raises StoreError (told in the condition Ready first), ApiError, ApiUnreachable.
        """
        try:
            return self._round(item)
        except StoreError as error:
            self._write_status(item, unseen_status(item, str(error), self._clock()))
            raise

    def _round(self, item: Json) -> Status | None:
        if item["metadata"].get("deletionTimestamp") or _is_finished(item):
            self._forget(item)
            return None
        try:
            accepted = accept(item, self._profiles, self._store, self._clock())
        except Refused as refusal:
            self._write_status(item, refused_status(item, refusal.reason, str(refusal), self._clock()))
            return None
        retried = self._retry(item, accepted)
        rounds, events = self._rounds_of(item, accepted)
        intent: Intent = "suspend" if item["spec"].get("suspend") else "run"
        decision = rounds.next(intent, self._clock)
        if rounds.trouble is not None:
            logger.warning("%s/%s: %s", *_key(item), rounds.trouble.message)
        try:
            events.flush()
        except StoreError as error:
            logger.warning("%s", error)
        links = self._links(accepted) | retried
        self._metrics.experiment(_key(item), decision.status, accepted.frozen, rounds.seen)
        status = self._judged(accepted, decision.status)
        self._write_status(item, running_status(item, status, links, accepted.frozen.revision, self._clock()))
        return status

    def gone(self, item: Json) -> None:
        """The Experiment was deleted. With deletionPolicy Delete its folder goes: best effort, as nothing waits for it.

        What its units hold may be others' too: `potstill gc` sweeps what nobody names any more. Raises StoreError.
        """
        self._forget(item)
        self._metrics.forget(_key(item))
        if item["spec"].get("deletionPolicy") == "Delete":
            for found in self._store.list(layout.experiment_prefix(item["metadata"]["name"], uid8_of(item))):
                self._store.delete(found.key)

    def _forget(self, item: Json) -> None:
        """Nothing more is done for it."""
        self._rounds.pop(item["metadata"]["uid"], None)
        self._watched.limit.forget(Owner(experiment=item["metadata"]["name"], uid8=uid8_of(item)))

    def _judged(self, accepted: Accepted, status: Status) -> Status:
        """`status` with the gate's result, if there is a gate. Raises StoreError."""
        frozen = accepted.frozen
        if frozen.gate is None or not status.runs:
            return status
        manifest = None
        if status.finished is not None:
            data = self._store.get(layout.manifest_key(frozen.name, frozen.uid8))
            manifest = Manifest.model_validate_json(data)
        return replace(status, conditions=(*status.conditions, gate_condition(frozen.gate, manifest)))

    def _retry(self, item: Json, accepted: Accepted) -> dict[str, str]:
        """Applies each new value of the retry annotation once. Returns the value for the status."""
        asked = _retry_asked(item)
        if asked is None:
            return {}
        if asked != item.get("status", {}).get("retried"):
            for unit in retry(accepted.frozen, self._store):
                logger.info("%s/%s: %s may be tried again (%s)", *_key(item), unit.unit, unit.reason)
        return {"retried": asked}

    def _rounds_of(self, item: Json, accepted: Accepted) -> tuple[Rounds, EventLog]:
        """Made anew when the experiment has grown."""
        uid, frozen = item["metadata"]["uid"], accepted.frozen
        kept = self._rounds.get(uid)
        if kept is not None and kept[0] == frozen.revision:
            return kept[1], kept[2]
        namespace = item["metadata"]["namespace"]
        executor = KubernetesExecutor(self._api, self._watched, namespace, item, frozen, accepted.profile)
        events = kept[2] if kept else EventLog(self._store, frozen.name, frozen.uid8, self._writer)
        rounds = Rounds(frozen, self._store, executor, events, recorded_counts(item))
        self._rounds[uid] = (frozen.revision, rounds, events)
        return rounds, events

    def _links(self, accepted: Accepted) -> dict[str, str]:
        name, uid8 = accepted.frozen.name, accepted.frozen.uid8
        root = self._store.url.rstrip("/")
        return {
            "store": root,
            "manifest": f"{root}/{layout.manifest_key(name, uid8)}",
            "report": f"{root}/{layout.report_prefix(name, uid8)}index.html",
        }

    def _write_status(self, item: Json, status: Json) -> None:
        if status == item.get("status"):
            return
        path = _path(item)
        try:
            self._api.request("PATCH", f"{path}/status", body={"status": status}, content_type=MERGE_PATCH)
        except ApiError as error:
            if error.status == 404:
                return
            raise
        for condition in transitions(item, status["conditions"]):
            self._event(item, condition)
        item["status"] = status

    def _event(self, item: Json, condition: Json) -> None:
        """Told on transitions only, so that `kubectl describe` reads as a story."""
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
            "note": f"{condition['type']} is {condition['status']}: {condition['message']}"[:1024],
            "type": "Warning" if condition["reason"] in WARNINGS else "Normal",
            "regarding": {
                "apiVersion": item["apiVersion"],
                "kind": item["kind"],
                "name": item["metadata"]["name"],
                "namespace": namespace,
                "uid": item["metadata"]["uid"],
            },
        }
        self._api.request("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body=event)


def _key(item: Json) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _retry_asked(item: Json) -> str | None:
    asked: str | None = item["metadata"].get("annotations", {}).get(RETRY_ANNOTATION)
    return asked


def _path(item: Json) -> str:
    metadata = item["metadata"]
    return f"/apis/{item['apiVersion']}/namespaces/{metadata['namespace']}/experiments/{metadata['name']}"


def _is_finished(item: Json) -> bool:
    """Finished for this generation: an edit (an added run) or a retry makes it go on."""
    if _retry_asked(item) not in (None, item.get("status", {}).get("retried")):
        return False
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == "Finished" and condition["status"] == "True":
            return bool(condition.get("observedGeneration") == item["metadata"]["generation"])
    return False
