"""One task of each kind, with fixed digests and dates, and the profiles that they run under."""

from typing import Any

from controller.executors.kubernetes.jobs import build_job, build_rendezvous
from controller.executors.kubernetes.prefetch import build_prefetch
from controller.experiment.profile import Profile
from tests.controller.experiments import START, benchmark, experiment, external, run
from workloads.api.model import sha256_of
from workloads.api.tasks import (
    GenerateMember,
    GenerateTask,
    GradeMember,
    GradeTask,
    ImportTask,
    ModelSource,
    Owner,
    ReportTask,
    RunnableTask,
    TrainTask,
)
from workloads.api.units import (
    ExternalInputs,
    GenerateInputs,
    GradeInputs,
    ModelContent,
    Prompting,
    ReportInputs,
    Sampling,
    Template,
    TrainInputs,
    UnitKind,
    UnitRef,
)

RUN = run("math_2k", (50, 100))
FROZEN = experiment((RUN,), ("math-500",))
FROM_BUCKET = FROZEN.model_copy(
    update={"base": ModelSource(location="s3://lab/bases/base", content=FROZEN.base.content)}
)
OWNER = Owner(experiment=FROZEN.name, uid8=FROZEN.uid8)
REFERENCE = {
    "apiVersion": "potstill.dev/v1alpha1", "kind": "Experiment", "name": FROZEN.name,
    "uid": "0016feb2-0000-4000-8000-000000000000", "controller": True, "blockOwnerDeletion": False,
}  # fmt: skip
BENCHMARK = benchmark("math-500", (RUN,))


def unit(kind: UnitKind) -> UnitRef:
    """Fixed, so that golden files do not depend on the digests' rules."""
    return UnitRef(kind=kind, digest=sha256_of(kind.encode()))


def image(name: str) -> str:
    return f"registry.test/potstill-{name}@sha256:{sha256_of(name.encode())}"


def profile(**changed: Any) -> Profile:
    """A profile with GPUs, a queue, weights on a claim, and gVisor for grading."""
    stated = {
        "name": "h200", "gpu": "NVIDIA-H200", "precision": "bfloat16",
        "engine": {"name": "vllm", "version": "0.32.0", "dtype": "bfloat16"},
        "store": {"url": "s3://lab/team", "endpoint": "https://s3.lab.test", "region": "eu-west-1", "secret": "store"},
        "weightsClaim": "weights", "serviceAccountName": "potstill-workloads", "imagePullSecrets": ["registry"],
        "train": {
            "image": image("train"), "gpus": 1, "queue": "training", "priorityClassName": "training",
            "nodeSelector": {"gpu": "h200"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "resources": {"requests": {"cpu": "8", "memory": "100Gi"}, "limits": {"memory": "200Gi"}},
        },
        "evaluate": {"image": image("evaluate"), "gpus": 1, "queue": "evaluation"},
        "grade": {"image": image("grade"), "runtimeClassName": "gvisor"},
        "report": {"image": image("controller")},
    }  # fmt: skip
    return Profile.model_validate(stated | changed, by_alias=True)


def train_profile(gpus: int, nodes: int = 1) -> Profile:
    plain = profile()
    return plain.model_copy(update={"train": plain.train.model_copy(update={"gpus": gpus, "nodes": nodes})})


def train_task() -> TrainTask:
    assert isinstance(RUN.inputs, TrainInputs)
    assert RUN.data_source is not None
    return TrainTask(
        unit=unit("train"), number=1, owner=OWNER, created=START,
        inputs=RUN.inputs, base=FROZEN.base, data=RUN.data_source,
    )  # fmt: skip


def import_task() -> ImportTask:
    inputs = external("theirs", (100,)).inputs
    assert isinstance(inputs, ExternalInputs)
    return ImportTask(
        unit=unit("train"), number=1, owner=OWNER, created=START,
        inputs=inputs, base=FROZEN.base, location="s3://lab/theirs/", ready="DONE", expect=(100,),
    )  # fmt: skip


def generate_task() -> GenerateTask:
    inputs = GenerateInputs(
        model=ModelContent(base=FROZEN.base.content), benchmark_content=BENCHMARK.source.sha256, problems=("p0",),
        prompting=Prompting(template=Template()), sampling=Sampling(), limit_tokens=4096, engine=FROZEN.engine,
    )  # fmt: skip
    member = GenerateMember(
        unit=unit("generate"), number=2, inputs=inputs, benchmark=BENCHMARK.source, benchmark_name="math-500"
    )
    return GenerateTask(
        unit=member.unit, number=2, owner=OWNER, created=START, base=FROZEN.base, members=(member,)
    )  # fmt: skip


def grade_task() -> GradeTask:
    inputs = GradeInputs(
        outputs_content=sha256_of(b"outputs"), benchmark_content=BENCHMARK.source.sha256, grader="code",
        completion="fenced", thinking=True, budgets=(2048, 4096),
    )  # fmt: skip
    member = GradeMember(
        unit=unit("grade"), number=1, inputs=inputs, outputs=unit("generate"),
        benchmark=BENCHMARK.source, benchmark_name="math-500",
    )  # fmt: skip
    return GradeTask(unit=member.unit, number=1, owner=OWNER, created=START, members=(member,))


def report_task() -> ReportTask:
    inputs = ReportInputs(manifest_content=sha256_of(b"manifest"))
    return ReportTask(unit=unit("report"), number=1, owner=OWNER, created=START, inputs=inputs)


BUILT: dict[str, tuple[RunnableTask, Profile]] = {
    "train": (train_task(), train_profile(1)),
    "train-8-gpus": (train_task(), train_profile(8)),
    "train-2-nodes": (train_task(), train_profile(8, nodes=2)),
    "train-cpu": (train_task(), profile(train={"image": image("train")}, weightsClaim=None, cacheClaim="cache")),
    "import": (import_task(), profile()),
    "generate": (generate_task(), profile()),
    "grade": (grade_task(), profile()),
    "report": (report_task(), profile()),
}
"""By golden file: every kind of Job that runs a task."""


def built(name: str, namespace: str = "team") -> dict[str, Any]:
    """What the controller posts: a task's Job, the prefetch Job, or the Service of a training on two nodes."""
    if name == "prefetch":
        return build_prefetch(FROM_BUCKET, profile(), REFERENCE, namespace)
    if name == "train-2-nodes-service":
        return build_rendezvous(FROZEN, train_task(), REFERENCE, namespace)
    task, stated = BUILT[name]
    return build_job(FROZEN, task, stated, REFERENCE, namespace)


JOBS = (*BUILT, "prefetch")
GOLDEN = (*JOBS, "train-2-nodes-service")
