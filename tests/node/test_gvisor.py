"""Grading under gVisor: the controller's Jobs, for a profile whose grade pods have a runtime class.

Model outputs hold the hostile programs, with an honest one for each. The tests read the committed grades.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.executors.kubernetes.jobs import build_job
from controller.experiment.profile import Profile
from tests.cluster.harness.api import Object
from tests.controller.experiments import START, experiment
from tests.grade.hostile_programs import ALL, DISK
from tests.grade.tiny import byte_tokenizer, output, write_jsonl
from tests.node.node import Node
from tests.node.s3 import ClusterS3
from tests.node.test_node import RESTRICTED, run_job
from workloads.api import store_keys
from workloads.api.grades import Grade
from workloads.api.model import sha256_of
from workloads.api.records import GradesRecord, OutputsRecord
from workloads.api.tasks import FileSource, GradeMember, GradeTask, Owner, pointers
from workloads.api.units import EngineIdentity, GradeInputs, UnitRef, unit_of
from workloads.benchmarks.load import load
from workloads.benchmarks.registry import BENCHMARKS
from workloads.storage.content_digest import hash_file
from workloads.storage.markers import commit_marker, fetch, read_marker
from workloads.storage.s3.store import S3Store

RUNTIME_CLASS = "gvisor"
FROZEN = experiment((), ())
PROBE = """
import json, os
from workloads.benchmarks.registry import BENCHMARKS
told = {"version": open("/proc/version").read(), "release": os.uname().release, "data": str(BENCHMARKS["mbpp-plus"].path)}
print(json.dumps(told))
"""
HONEST = "def double(x):\n    return 2 * x\n"
TESTS = [{"args": [1], "expected": 2}, {"args": [2], "expected": 4}]
KERNEL = "import os\ndef release():\n    return os.uname().release\n"
MBPP = ("Mbpp/2", "Mbpp/3", "Mbpp/4")
AT_A_LIMIT = {"fills memory", "thread bomb", "makes a million files"}
"""With a benchmark's own limits, these reach the time limit of one second before the limit that they attack, or after
it.
"""


@dataclass(frozen=True)
class Inside:
    """The view from a pod of the runtime class: the kernel's version and release, and the place of the grader's
    benchmark.
    """

    version: str
    release: str
    data: str


@dataclass(frozen=True)
class Graded:
    record: GradesRecord
    by_problem: dict[str, Grade]


class GradingJob:
    """Creates one grading task in its own store, and one Job."""

    def __init__(self, node: Node, namespace: str, s3: ClusterS3, image: str, folder: Path) -> None:
        self._node = node
        self._namespace = namespace
        self._folder = folder
        self._store = S3Store(s3.client(), "lab", namespace, deadline_seconds=60)
        self._url = f"s3://lab/{namespace}"
        grade = {"image": image, "runtimeClassName": RUNTIME_CLASS}
        store = {"url": self._url, "endpoint": s3.endpoint, "region": "us-east-1", "secret": "store"}
        stated = {"engine": {"version": "5"}, "store": store, "grade": grade}
        self._profile = Profile.model_validate(stated, by_alias=True, by_name=False)
        self._members: list[GradeMember] = []
        self._tokenizer = byte_tokenizer()
        blob = self._tokenizer.to_str().encode()
        self._tokenizer_sha256 = sha256_of(blob)
        self._store.put_new(store_keys.blob_key(self._tokenizer_sha256), blob)

    def add(self, name: str, benchmark: FileSource, programs: dict[str, str]) -> UnitRef:
        """Adds a member with one output per problem, which holds that program. Returns the unit of its grades."""
        texts = {problem: f"```python\n{program}\n```" for problem, program in programs.items()}
        outputs = [output(self._tokenizer, problem, text) for problem, text in texts.items()]
        longest = max(len(one.token_ids) for one in outputs)
        record = OutputsRecord(
            engine=EngineIdentity(name="transformers", version="5", dtype="float32"),
            outputs=len(outputs),
            generated_tokens=sum(len(one.token_ids) for one in outputs),
            finish_reasons={"stop": len(outputs)},
            prompts_sha256="0" * 64,
            tokenizer_sha256=self._tokenizer_sha256,
            seconds=1.0,
            versions={},
        )
        generate = UnitRef(kind="generate", digest=sha256_of(name.encode()))
        files = {"outputs.jsonl": write_jsonl(self._folder / f"{name}.outputs.jsonl", outputs)}
        marker = commit_marker(self._store, generate, 1, store_keys.OUTPUTS, files, record, now=START)
        inputs = GradeInputs(
            outputs_content=marker.content,
            benchmark_content=benchmark.sha256,
            grader="code",
            completion="fenced",
            thinking=False,
            budgets=(longest,),
        )
        unit = unit_of(inputs)
        self._members.append(
            GradeMember(unit=unit, number=1, inputs=inputs, outputs=generate, benchmark=benchmark, benchmark_name=name)
        )
        return unit

    def upload(self, name: str, rows: list[Object]) -> FileSource:
        """Uploads a user's benchmark."""
        path = self._folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._store.upload(f"benchmarks/{name}", path, hash_file(path))
        return FileSource(location=f"{self._url}/benchmarks/{name}", sha256=hash_file(path))

    def run(self) -> None:
        """Waits until the Job has completed."""
        lead = self._members[0]
        owner = Owner(experiment=FROZEN.name, uid8=FROZEN.uid8)
        task = GradeTask(unit=lead.unit, number=1, owner=owner, created=START, members=tuple(self._members))
        self._store.put_new(task.key, task.to_json())
        for pointer in pointers(task):
            self._store.put_new(pointer.key, pointer.to_json())
        body = build_job(FROZEN, task, self._profile, self._owner(), self._namespace)
        self._node.plane.api.post(f"/apis/batch/v1/namespaces/{self._namespace}/jobs", body)
        self._node.wait_for_job(self._namespace, body["metadata"]["name"], deadline_seconds=1200)

    def grades(self, unit: UnitRef) -> Graded:
        """Returns the grades that the Job committed."""
        marker = read_marker(self._store, unit, store_keys.GRADES)
        assert marker is not None
        assert isinstance(marker.record, GradesRecord)
        path = fetch(self._store, marker, ["grades.jsonl"], self._folder / unit.digest)["grades.jsonl"]
        grades = map(Grade.model_validate_json, path.read_text().splitlines())
        return Graded(marker.record, {grade.problem: grade for grade in grades})

    def _owner(self) -> Object:
        """Returns the Job's owner, which is a ConfigMap here: the Job is deleted with it."""
        body: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "owner-"}}
        made = self._node.plane.api.post(f"/api/v1/namespaces/{self._namespace}/configmaps", body)
        name, uid = made["metadata"]["name"], made["metadata"]["uid"]
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "controller": True}


@pytest.fixture(scope="module")
def namespace(node: Node, s3: ClusterS3) -> str:
    """A namespace in a cluster with the runtime class, with the store's credentials in a Secret."""
    node.containerd.add_gvisor()
    runtime_class: Object = {"metadata": {"name": RUNTIME_CLASS}, "handler": "runsc"}
    node.plane.api.post("/apis/node.k8s.io/v1/runtimeclasses", runtime_class)
    name = node.plane.namespace("gvisor", RESTRICTED)
    keys = {key: s3.environment()[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    secret: Object = {"metadata": {"name": "store"}, "stringData": keys}
    node.plane.api.post(f"/api/v1/namespaces/{name}/secrets", secret)
    return name


@pytest.fixture(scope="module")
def inside(node: Node, namespace: str, image: Callable[[str], str]) -> Inside:
    told = run_job(node, namespace, image("grade"), ["python", "-c", PROBE], runtime_class=RUNTIME_CLASS)
    return Inside(**json.loads(told))


@pytest.fixture(scope="module")
def graded(
    node: Node,
    namespace: str,
    s3: ClusterS3,
    image: Callable[[str], str],
    inside: Inside,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Graded]:
    """By member: `hostile`, with problems h0, h1.. (hostile), a0, a1.. (honest) and kernel; and `mbpp-plus`."""
    job = GradingJob(node, namespace, s3, image("grade"), tmp_path_factory.mktemp("gvisor"))
    hostile = {
        f"h{number}": attack.program.replace("{data!r}", repr(inside.data))
        for number, attack in enumerate([*ALL, *DISK])
    }
    honest = {f"a{number}": HONEST for number in range(len(hostile))}
    rows: list[Object] = [
        {"id": problem, "prompt": "Double x.", "entry_point": "double", "tests": TESTS} for problem in hostile | honest
    ]
    tests = [{"args": [], "expected": inside.release}]
    rows.append({"id": "kernel", "prompt": "The kernel?", "entry_point": "release", "tests": tests})
    programs = {**hostile, **honest, "kernel": KERNEL}
    units = {"hostile": job.add("hostile", job.upload("hostile.jsonl", rows), programs)}
    mbpp = load("mbpp-plus")
    solutions = {name: mbpp.problem(name).reference_solution or "" for name in MBPP}
    source = FileSource(location="builtin:mbpp-plus", sha256=hash_file(BENCHMARKS["mbpp-plus"].path))
    units["mbpp-plus"] = job.add("mbpp-plus", source, solutions)
    job.run()
    return {name: job.grades(unit) for name, unit in units.items()}


def test_pods_of_the_runtime_class_have_gvisors_kernel(inside: Inside) -> None:
    assert "gvisor" in inside.version.lower()
    assert inside.release != os.uname().release


def test_programs_are_executed_on_gvisors_kernel(graded: dict[str, Graded]) -> None:
    kernel = graded["hostile"].by_problem["kernel"]
    assert kernel.verdict == "right", kernel.evidence


def test_the_sandbox_works_within_it(graded: dict[str, Graded]) -> None:
    layers = graded["hostile"].record.sandbox
    assert {"own root", "bounded folder", "network namespace", "pid namespace", "seccomp"} <= set(layers)


def test_no_hostile_program_is_graded_right_and_each_ends_as_it_does_elsewhere(graded: dict[str, Graded]) -> None:
    differences = []
    for number, attack in enumerate([*ALL, *DISK]):
        grade = graded["hostile"].by_problem[f"h{number}"]
        in_time = grade.cause != "timeout" or attack.name not in AT_A_LIMIT
        expected = (attack.cause, attack.detail) if in_time else ("timeout", "")
        detail = str(grade.evidence.get("detail", ""))
        if grade.verdict != "wrong" or grade.cause != expected[0] or expected[1] not in detail:
            differences.append(f"{attack.name}: {grade.verdict}, {grade.cause}, {grade.evidence}")
    assert not differences, "\n".join(differences)


def test_the_honest_programs_among_them_are_right(graded: dict[str, Graded]) -> None:
    wrong = [
        grade
        for problem, grade in graded["hostile"].by_problem.items()
        if problem.startswith("a") and grade.verdict != "right"
    ]
    assert not wrong


def test_mbpp_plus_is_graded_right(graded: dict[str, Graded]) -> None:
    assert {name: grade.verdict for name, grade in graded["mbpp-plus"].by_problem.items()} == dict.fromkeys(
        MBPP, "right"
    )
