"""An experiment's status: counts, one line per run, conditions. Pure; written when it changed, once a round."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controller.decide.actions import Condition, Counts, Status, counted

Json = dict[str, Any]
SHOWN_RUNS = 64
FIRST_REASONS = frozenset({"InProgress", "NotFinished", "NotSuspended", "Observed", "Running"})
"""Reasons of conditions with which every Experiment begins."""


def accepted_condition(reason: str = "Accepted", message: str = "frozen in the store") -> Condition:
    return Condition("Accepted", "True" if reason == "Accepted" else "False", reason, message)


def recorded_counts(item: Json) -> Counts:
    """What the status says was committed: the store may hold more, and never less."""
    told = item.get("status", {}).get("counts", {})
    return Counts(told.get("checkpoints", 0), told.get("outputs", 0), told.get("grades", 0))


def refused_status(item: Json, reason: str, message: str, now: datetime) -> Json:
    """Accepted=False, and Finished: a refused spec does not run until it is changed, and nobody waits for it."""
    told = (accepted_condition(reason, message), Condition("Finished", "True", "Failed", message))
    return {
        "observedGeneration": item["metadata"]["generation"],
        "phase": "Refused",
        "conditions": merged_conditions(item, told, now),
    }


def unseen_status(item: Json, message: str, now: datetime) -> Json:
    """The store did not answer: nothing is concluded, and all that was told before stays."""
    told = (Condition("Ready", "Unknown", "StoreUnavailable", message),)
    return {**item.get("status", {}), "conditions": merged_conditions(item, told, now)}


def running_status(item: Json, status: Status, links: Mapping[str, str], revision: int, now: datetime) -> Json:
    """`links`: store, manifest, report. What could not be seen this round stays as it was told before."""
    told = (accepted_condition(), *status.conditions)
    if not status.runs and not status.evaluations:
        return {**item.get("status", {}), "conditions": merged_conditions(item, told, now)}
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
                "message": line.message,
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
    return "Running"


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
            "message": condition.message[:32768],
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
