"""One round of one Experiment: accept, observe, decide, act, and write the status once."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from controller.decide.actions import Intent, Status
from controller.events import EventLog
from controller.kubernetes.acceptance import Accepted, Refused, accept
from controller.kubernetes.api import MERGE_PATCH, Api, ApiError
from controller.kubernetes.executor import KubernetesExecutor, Watched
from controller.kubernetes.status import recorded_counts, refused_status, running_status, transitions
from controller.loop import Rounds
from controller.spec.profile import Profile
from workloads.contract import layout
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
    ) -> None:
        self._api = api
        self._watched = watched
        self._store = store
        self._profiles = dict(profiles)
        self._clock = clock
        self._writer = writer
        self._rounds: dict[str, tuple[int, Rounds, EventLog]] = {}

    def reconcile(self, item: Json) -> Status | None:
        """One round; None when there is nothing (more) to do. Raises StoreError, ApiError, ApiUnreachable."""
        uid = item["metadata"]["uid"]
        if item["metadata"].get("deletionTimestamp") or _is_finished(item):
            self._rounds.pop(uid, None)
            return None
        try:
            accepted = accept(item, self._profiles, self._store, self._clock())
        except Refused as refusal:
            self._write_status(item, refused_status(item, refusal.reason, str(refusal), self._clock()))
            return None
        rounds, events = self._rounds_of(item, accepted)
        intent: Intent = "suspend" if item["spec"].get("suspend") else "run"
        decision = rounds.next(intent, self._clock)
        try:
            events.flush()
        except StoreError as error:
            logger.warning("%s", error)
        links = self._links(accepted)
        self._write_status(item, running_status(item, decision.status, links, accepted.frozen.revision, self._clock()))
        return decision.status

    def forget(self, uid: str) -> None:
        self._rounds.pop(uid, None)

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


def _path(item: Json) -> str:
    metadata = item["metadata"]
    return f"/apis/{item['apiVersion']}/namespaces/{metadata['namespace']}/experiments/{metadata['name']}"


def _is_finished(item: Json) -> bool:
    """Finished for this generation: an edit (an added run) or a retry makes it go on."""
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == "Finished" and condition["status"] == "True":
            return bool(condition.get("observedGeneration") == item["metadata"]["generation"])
    return False
