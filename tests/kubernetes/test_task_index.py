"""The index of Jobs by task equals a search through all Jobs and pods, after any additions, changes and deletions."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.executors.kubernetes.job_states import job_of
from controller.executors.kubernetes.names import (
    CLOSED_ANNOTATION,
    EXPERIMENT_LABEL,
    ROLE_LABEL,
    TASK_ANNOTATION,
    UID8_LABEL,
)
from controller.executors.kubernetes.quota import holders
from controller.executors.kubernetes.task_index import JOB_NAME_LABEL, IndexOf, TaskIndex, is_evaluation
from controller.snapshot.types import Job

Json = dict[str, Any]
NAMES = ("a", "b", "c")
TIME = "2026-02-16T09:00:00+00:00"


def job(name: str, version: int, *, closed: bool = False, ended: bool = False, task: bool = True) -> Json:
    annotations = {TASK_ANNOTATION: f"units/train/{name}/tasks/1.json"} if task else {}
    conditions = [{"type": "Complete", "status": "True", "lastTransitionTime": TIME}] if ended else []
    return {
        "metadata": {
            "name": name, "uid": f"{name}-uid", "resourceVersion": str(version), "creationTimestamp": TIME,
            "annotations": annotations | ({CLOSED_ANNOTATION: "true"} if closed else {}),
        },
        "status": {"conditions": conditions},
    }  # fmt: skip


def pod(name: str, of: str, version: int, *, runs: bool) -> Json:
    state = {"running": {"startedAt": TIME}} if runs else {"waiting": {"reason": "ContainerCreating"}}
    return {
        "metadata": {"name": name, "labels": {JOB_NAME_LABEL: of}, "resourceVersion": str(version)},
        "status": {"containerStatuses": [{"name": "train", "state": state}]},
    }


flags = st.booleans()
jobs = st.builds(job, st.sampled_from(NAMES), st.integers(0, 99), closed=flags, ended=flags, task=flags)
pods = st.builds(
    lambda name, version, runs: pod(name, name[0], version, runs=runs),
    st.sampled_from([f"{name}-{n}" for name in NAMES for n in (0, 1)]), st.integers(0, 99), flags,
)  # fmt: skip
changes = st.one_of(
    st.tuples(st.just("put"), st.just("jobs"), jobs),
    st.tuples(st.just("put"), st.just("pods"), pods),
    st.tuples(st.just("remove"), st.just("jobs"), jobs),
    st.tuples(st.just("remove"), st.just("pods"), pods),
    st.tuples(
        st.just("replace"), st.just("jobs"), st.lists(jobs, max_size=3, unique_by=lambda j: j["metadata"]["name"])
    ),
    st.tuples(
        st.just("replace"), st.just("pods"), st.lists(pods, max_size=4, unique_by=lambda p: p["metadata"]["name"])
    ),
)


def looked_at(all_jobs: dict[str, Json], all_pods: dict[str, Json]) -> dict[str, Job]:
    found = {}
    for name, item in all_jobs.items():
        marks = item["metadata"]["annotations"]
        if TASK_ANNOTATION in marks and CLOSED_ANNOTATION not in marks:
            own = [one for one in all_pods.values() if one["metadata"]["labels"][JOB_NAME_LABEL] == name]
            found[marks[TASK_ANNOTATION]] = job_of(item, own)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, max_size=12))
def test_after_any_changes_the_index_is_what_a_look_at_everything_finds(drawn: list[Any]) -> None:
    index = TaskIndex()
    kinds = {"jobs": IndexOf(index, "jobs"), "pods": IndexOf(index, "pods")}
    held: dict[str, dict[str, Json]] = {"jobs": {}, "pods": {}}
    snapshots = []
    for what, kind, item in drawn:
        getattr(kinds[kind], what)(item)
        if what == "replace":
            held[kind] = {one["metadata"]["name"]: one for one in item}
        elif what == "put":
            held[kind][item["metadata"]["name"]] = item
        else:
            held[kind].pop(item["metadata"]["name"], None)
        found = index.jobs()
        expected = looked_at(held["jobs"], held["pods"])
        assert dict(found) == expected
        snapshots.append((found, expected))
        for name in NAMES:
            known = held["jobs"].get(name)
            key = f"units/train/{name}/tasks/1.json"
            assert index.of_task(key) is (
                known if known and TASK_ANNOTATION in known["metadata"]["annotations"] else None
            )
    assert all(dict(found) == expected for found, expected in snapshots), "a snapshot does not change afterwards"


roles = st.sampled_from(("train", "generate"))


def of_role(item: Json, role: str, owner: str) -> Json:
    """Returns the Job or pod with the labels of this role. It has ended if its status says so."""
    metadata = item["metadata"]
    name = metadata.get("labels", {}).get(JOB_NAME_LABEL, metadata["name"])
    metadata["labels"] = metadata.get("labels", {}) | {
        ROLE_LABEL: role, EXPERIMENT_LABEL: owner, UID8_LABEL: f"{owner:0<8}",
    }  # fmt: skip
    if "annotations" not in metadata:
        metadata["annotations"] = {TASK_ANNOTATION: f"units/train/{name}/tasks/1.json"}
        item["status"]["phase"] = "Running" if "running" in str(item["status"]) else "Succeeded"
    return item


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(changes, roles), max_size=12))
def test_after_any_changes_the_evaluations_are_those_of_a_look_at_everything(drawn: list[Any]) -> None:
    index, now = TaskIndex(evaluations=True), datetime.fromisoformat(TIME)
    held: dict[str, dict[str, Json]] = {"jobs": {}, "pods": {}}
    seen: set[str] = set()
    for (what, kind, stated), role in drawn:
        items = [of_role(one, role, "lab") for one in (stated if what == "replace" else [stated])]
        by_name = {one["metadata"]["name"]: one for one in items}
        if what == "remove":
            index.remove(kind, items[0])
            held[kind].pop(items[0]["metadata"]["name"], None)
        elif what == "put":
            index.put(kind, items[0])
            held[kind] |= by_name
        else:
            index.replace(kind, items)
            held[kind] = by_name
        found = index.take_evaluations()
        seen |= found.seen
        everything = [list(held[one].values()) for one in ("jobs", "pods")]
        assert holders(found.jobs, found.pods, {}, now) == holders(everything[0], everything[1], {}, now)
        assert {one["metadata"]["annotations"][TASK_ANNOTATION] for one in everything[0] if is_evaluation(one)} <= seen
    assert index.take_evaluations().seen == frozenset()


def test_a_change_of_which_the_planner_reads_nothing_has_the_same_meaning() -> None:
    index = TaskIndex()
    index.put("jobs", job("a", 1))
    index.put("pods", pod("a-0", "a", 1, runs=False))
    before = index.meaning("pods", pod("a-0", "a", 1, runs=False))
    labelled = pod("a-0", "a", 2, runs=False)
    labelled["metadata"]["annotations"] = {"seen-by": "a service mesh"}
    index.put("pods", labelled)
    assert index.meaning("pods", labelled) == before
    started = pod("a-0", "a", 3, runs=True)
    index.put("pods", started)
    assert index.meaning("pods", started) != before


def test_a_job_without_a_task_has_no_meaning() -> None:
    index = TaskIndex()
    index.put("jobs", job("prefetch", 1, task=False))
    assert index.meaning("jobs", job("prefetch", 1, task=False)) is None
    assert index.pods_of("prefetch") == []
