"""An experiment's status: counts, one line for each run, conditions. Pure. It is written once a round, if it changed.

Its size has a limit for any message of programs and servers, because etcd would refuse a larger object.
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
"""All fields of a status. A patch sets each of them, so that no old value stays."""
ACCEPTED = Condition("Accepted", "True", "Frozen", "the experiment was accepted")
FIRST_REASONS = frozenset({"InProgress", "NotFinished", "NotSuspended", "Observed", "Running"})
"""Reasons of the conditions that every new Experiment has."""


def cut_bytes(text: str, most: int) -> str:
    """Returns `text` if its UTF-8 has at most `most` bytes, else its beginning and "..." within this limit."""
    data = text.encode(errors="replace")
    return text if len(data) <= most else data[: most - 3].decode(errors="ignore") + "..."


def without_foreign_status(item: Json) -> Json:
    """Returns `item` without a status that belongs to another object of the same name.

    Such a status was written too late or restored from a backup. The manifest that it names has another UID.
    """
    manifest = item.get("status", {}).get("manifest")
    own = f"/{store_keys.manifest_key(item['metadata']['name'], uid8_of(item))}"
    if manifest is None or str(manifest).endswith(own):
        return item
    return {key: value for key, value in item.items() if key != "status"}


def recorded_counts(item: Json) -> Counts:
    """Returns the counts in the status. The store may contain more, but not less."""
    changed = item.get("status", {}).get("counts", {})
    return Counts(changed.get("checkpoints", 0), changed.get("outputs", 0), changed.get("grades", 0))


def refused_status(item: Json, reason: str, message: str, now: datetime) -> Json:
    """Returns Accepted=False and Finished=True: a refused spec does not run until it is changed."""
    changed = (Condition("Accepted", "False", reason, message), Condition("Finished", "True", "Failed", message))
    return {
        "observedGeneration": item["metadata"]["generation"],
        "phase": "Refused",
        "conditions": merged_conditions(item, changed, now),
    }


def store_unavailable_status(item: Json, message: str, now: datetime) -> Json:
    """Returns the status if the store did not answer: Ready is Unknown, and all else stays as before."""
    changed = (Condition("Ready", "Unknown", "StoreUnavailable", message),)
    return _with_conditions(item, changed, now)


def store_changed_status(item: Json, store_url: str, now: datetime) -> Json:
    """Returns the status if the controller's store is not the one in which the experiment was accepted."""
    before = item["status"]["store"]
    message = (
        f"its results are in {before} and this controller's store is {store_url}: it does not run. Set store.url back "
        f"to {before} to continue it, or delete the Experiment and apply it again to start from the beginning in "
        f"{store_url}"
    )
    return _with_conditions(item, (Condition("Ready", "False", "StoreChanged", message),), now)


def _with_conditions(item: Json, changed: tuple[Condition, ...], now: datetime) -> Json:
    """Returns the previous status with some conditions replaced."""
    before = {"phase": "Pending", **item.get("status", {})}
    return {**before, "conditions": merged_conditions(item, changed, now)}


def running_status(item: Json, status: Status, links: Mapping[str, str], revision: int, now: datetime) -> Json:
    """`links`: store, manifest, report. Values that could not be read in this round stay as before."""
    changed = (ACCEPTED, *status.conditions)
    if not status.runs and not status.evaluations:
        return _with_conditions(item, changed, now)
    changed = (*changed, Condition("Ready", "True", "Observed", "the store and the Jobs were read"))
    if status.finished is None:
        changed = (*changed, Condition("Finished", "False", "Running", "some work is not done"))
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
    built["conditions"] = merged_conditions(item, changed, now)
    return built


def _phase(item: Json, status: Status) -> str:
    if status.finished is not None:
        return status.finished
    if item["spec"].get("suspend"):
        return "Suspended" if status.idle else "Suspending"
    states = {line.state for line in status.runs} | {line.state for line in status.evaluations}
    return "Running" if "running" in states or states <= {"done", "failed"} else "Pending"


def merged_conditions(item: Json, changed: tuple[Condition, ...], now: datetime) -> list[Json]:
    """Returns the existing conditions with the new ones. lastTransitionTime changes only with the status value."""
    standing = {c["type"]: c for c in item.get("status", {}).get("conditions", [])}
    for condition in changed:
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
    """Returns the conditions whose status or reason has changed: each gets an Event.

    A new Experiment gets an Event only for its acceptance, and none for the conditions that every Experiment starts
    with.
    """
    standing = {c["type"]: (c["status"], c["reason"]) for c in item.get("status", {}).get("conditions", [])}
    return [
        c
        for c in conditions
        if standing.get(c["type"]) != (c["status"], c["reason"])
        and not (c["type"] not in standing and c["reason"] in FIRST_REASONS)
    ]
