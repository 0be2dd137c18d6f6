"""An experiment's status: counts, one line per run, conditions. Pure; written when it changed, once a round.

Its size is bounded whatever programs and servers say: a status that etcd refuses would never change again.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controller.executors.kubernetes.acceptance import uid8_of
from controller.planner.actions import Condition, Counts, Status, counted
from workloads.api import store_keys

Json = dict[str, Any]
SHOWN_RUNS = 64
RUN_BYTES = 1024
CONDITION_BYTES = 4096
FIELDS = (
    *("observedGeneration", "phase", "training", "checkpoints", "evaluations", "gate", "store", "manifest", "report"),
    *("retried", "revision", "counts", "runs", "conditions"),
)
"""All that a status may hold: a patch sets each, so that none is left of the status before."""
ACCEPTED = Condition("Accepted", "True", "Frozen", "the experiment was accepted")
FIRST_REASONS = frozenset({"InProgress", "NotFinished", "NotSuspended", "Observed", "Running"})
"""Reasons of conditions with which every Experiment begins."""


def cut_bytes(text: str, most: int) -> str:
    """`text` if its UTF-8 has at most `most` bytes, else its beginning and "...", in as many."""
    data = text.encode(errors="replace")
    return text if len(data) <= most else data[: most - 3].decode(errors="ignore") + "..."


def believed(item: Json) -> Json:
    """`item`, without a status that is about another object of the same name (written too late, or restored from a
    backup): the manifest that it names is not that of this UID.
    """
    manifest = item.get("status", {}).get("manifest")
    own = f"/{store_keys.manifest_key(item['metadata']['name'], uid8_of(item))}"
    if manifest is None or str(manifest).endswith(own):
        return item
    return {key: value for key, value in item.items() if key != "status"}


def recorded_counts(item: Json) -> Counts:
    """What the status says was committed: the store may hold more, and never less."""
    told = item.get("status", {}).get("counts", {})
    return Counts(told.get("checkpoints", 0), told.get("outputs", 0), told.get("grades", 0))


def refused_status(item: Json, reason: str, message: str, now: datetime) -> Json:
    """Accepted=False, and Finished: a refused spec does not run until it is changed, and nobody waits for it."""
    told = (Condition("Accepted", "False", reason, message), Condition("Finished", "True", "Failed", message))
    return {
        "observedGeneration": item["metadata"]["generation"],
        "phase": "Refused",
        "conditions": merged_conditions(item, told, now),
    }


def unseen_status(item: Json, message: str, now: datetime) -> Json:
    """The store did not answer: nothing is concluded, and all that was told before stays."""
    told = (Condition("Ready", "Unknown", "StoreUnavailable", message),)
    return _with_conditions(item, told, now)


def store_changed_status(item: Json, store_url: str, now: datetime) -> Json:
    """The controller has another store than the one in which this experiment was accepted: nothing is done."""
    before = item["status"]["store"]
    message = (
        f"its results are in {before} and this controller's store is {store_url}: nothing is done. Set store.url back "
        f"to {before} and it goes on; or delete the Experiment and apply it again, and it begins anew in {store_url}"
    )
    return _with_conditions(item, (Condition("Ready", "False", "StoreChanged", message),), now)


def _with_conditions(item: Json, told: tuple[Condition, ...], now: datetime) -> Json:
    """The status as it was told before, with some conditions anew."""
    before = {"phase": "Pending", **item.get("status", {})}
    return {**before, "conditions": merged_conditions(item, told, now)}


def running_status(item: Json, status: Status, links: Mapping[str, str], revision: int, now: datetime) -> Json:
    """`links`: store, manifest, report. What could not be seen this round stays as it was told before."""
    told = (ACCEPTED, *status.conditions)
    if not status.runs and not status.evaluations:
        return _with_conditions(item, told, now)
    told = (*told, Condition("Ready", "True", "Observed", "store and Jobs are seen"))
    if status.finished is None:
        told = (*told, Condition("Finished", "False", "Running", "there is work left"))
    done = sum(line.state == "done" for line in status.runs)
    counts = counted(status.evaluations)
    expected = sum(line.checkpoints_expected for line in status.runs)
    built: Json = {
        "observedGeneration": item["metadata"]["generation"],
        "phase": _phase(item, status),
        "training": f"{done}/{len(status.runs)}",
        "checkpoints": f"{status.counts.checkpoints}/{expected}",
        "evaluations": f"{counts.graded}/{counts.asked}",
        "revision": revision,
        "counts": {
            "checkpoints": status.counts.checkpoints,
            "outputs": status.counts.outputs,
            "grades": status.counts.grades,
        },
        "runs": [
            {
                "name": line.name,
                "state": line.state,
                "message": cut_bytes(line.message, RUN_BYTES),
                "done": line.done,
                "total": line.total,
                "checkpoints": f"{line.checkpoints}/{line.checkpoints_expected}",
            }
            for line in status.runs[:SHOWN_RUNS]
        ],
        **links,
    }
    if gate := status.condition("GatePassed"):
        built["gate"] = gate.reason
    built["conditions"] = merged_conditions(item, told, now)
    return built


def _phase(item: Json, status: Status) -> str:
    if status.finished is not None:
        return status.finished
    if item["spec"].get("suspend"):
        return "Suspended" if status.idle else "Suspending"
    states = {line.state for line in status.runs} | {line.state for line in status.evaluations}
    return "Running" if "running" in states or states <= {"done", "failed"} else "Pending"


def merged_conditions(item: Json, told: tuple[Condition, ...], now: datetime) -> list[Json]:
    """The told conditions over those that stand: lastTransitionTime moves with the status value only."""
    standing = {c["type"]: c for c in item.get("status", {}).get("conditions", [])}
    for condition in told:
        before = standing.get(condition.type)
        same = before is not None and before["status"] == condition.status
        standing[condition.type] = {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": cut_bytes(condition.message, CONDITION_BYTES),
            "observedGeneration": item["metadata"]["generation"],
            "lastTransitionTime": before["lastTransitionTime"]
            if before and same
            else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    return list(standing.values())


def transitions(item: Json, conditions: list[Json]) -> list[Json]:
    """Conditions whose status or reason is not what it was: what is worth an Event.

    Of a new Experiment that is how it was accepted; what every Experiment begins with is none.
    """
    standing = {c["type"]: (c["status"], c["reason"]) for c in item.get("status", {}).get("conditions", [])}
    return [
        c
        for c in conditions
        if standing.get(c["type"]) != (c["status"], c["reason"])
        and not (c["type"] not in standing and c["reason"] in FIRST_REASONS)
    ]
