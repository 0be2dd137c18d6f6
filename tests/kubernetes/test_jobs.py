"""The exact objects posted for each task, and rules for all of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.executors.kubernetes.jobs import build_job, build_rendezvous
from controller.executors.kubernetes.names import QUEUE_LABEL
from controller.executors.kubernetes.prefetch import build_prefetch, needs_prefetch
from controller.experiment.profile import SizeLimits
from tests.kubernetes.tasks import (
    BUILT,
    FROM_BUCKET,
    FROZEN,
    GOLDEN,
    JOBS,
    REFERENCE,
    built,
    grade_task,
    profile,
    report_task,
    train_profile,
    train_task,
)
from workloads.api.tasks import ModelSource

FOLDER = Path(__file__).parent / "golden"
CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod_of(job).get("initContainers", []), *pod_of(job)["containers"]]


def compare(name: str, made: dict[str, Any], update: bool) -> None:
    path = FOLDER / f"{name}.yaml"
    text = yaml.safe_dump(json.loads(json.dumps(made)), sort_keys=False, width=120)
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; if that is meant: pytest tests/kubernetes --update-golden"


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden", default=False))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_posted_job_equals_the_golden_file(name: str, update: bool) -> None:
    compare(name, built(name), update)


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(GOLDEN)


@pytest.mark.parametrize("name", BUILT)
def test_a_tasks_job_never_retries_by_itself(name: str) -> None:
    spec = built(name)["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "activeDeadlineSeconds" not in spec


@pytest.mark.parametrize("name", JOBS)
def test_no_pod_can_talk_to_the_api_server(name: str) -> None:
    assert pod_of(built(name))["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", JOBS)
def test_every_root_is_read_only_and_every_volume_bounded(name: str) -> None:
    job = built(name)
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in containers(job))
    assert all("sizeLimit" in v["emptyDir"] for v in pod_of(job)["volumes"] if "emptyDir" in v)


def sizes(job: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v["emptyDir"]["sizeLimit"] for v in pod_of(job)["volumes"] if "emptyDir" in v}


def test_a_profile_says_how_much_a_pods_own_volumes_may_hold() -> None:
    stated = train_profile(1)
    limits = SizeLimits(tmp="1Gi", work="500Gi", shm="64Gi")
    larger = stated.model_copy(update={"train": stated.train.model_copy(update={"size_limits": limits})})
    job = build_job(FROZEN, train_task(), larger, REFERENCE, "team")
    assert sizes(job) == {"tmp": "1Gi", "work": "500Gi", "cache": "500Gi", "shm": "64Gi"}
    assert sizes(built("train")) == {"tmp": "2Gi", "work": "100Gi", "cache": "100Gi", "shm": "8Gi"}


@pytest.mark.parametrize("name", JOBS)
def test_pods_names_fit_into_a_label(name: str) -> None:
    job = built(name)
    index = "-10-abcde"
    assert len(job["metadata"]["name"] + index) <= 63


def test_only_the_executing_container_of_a_grading_pod_has_no_credentials() -> None:
    without = [one["name"] for one in containers(built("grade")) if not CREDENTIALS & {e["name"] for e in one["env"]}]
    assert without == ["execute"]
    assert "POTSTILL_STORE" not in {e["name"] for e in containers(built("grade"))[1]["env"]}


def test_aws_gives_the_executing_container_no_role() -> None:
    annotations = built("grade")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/skip-containers"] == "execute"


def test_ranks_are_as_many_as_gpus_and_pods_as_many_as_nodes() -> None:
    job = built("train-2-nodes")
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["completionMode"]) == (2, 2, "Indexed")
    assert "--processes=8" in containers(job)[0]["command"]
    assert containers(job)[0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    name = job["metadata"]["name"]
    assert pod_of(job)["subdomain"] == name == build_rendezvous(FROZEN, train_task(), REFERENCE, "")["metadata"]["name"]
    assert f"--master={name}-0.{name}:29400" in containers(job)[0]["command"]


def test_the_queue_of_the_role_is_on_the_job() -> None:
    assert built("train")["metadata"]["labels"][QUEUE_LABEL] == "training"
    assert built("generate")["metadata"]["labels"][QUEUE_LABEL] == "evaluation"
    assert QUEUE_LABEL not in built("report")["metadata"]["labels"]


def test_two_attempts_have_two_names() -> None:
    again = train_task().model_copy(update={"number": 2})
    first, second = (build_job(FROZEN, task, train_profile(1), REFERENCE, "team") for task in (train_task(), again))
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_weights_are_read_where_the_prefetch_job_leaves_them_and_written_by_it_alone() -> None:
    mounts = {
        name: {m["readOnly"] for one in containers(built(name)) for m in one["volumeMounts"] if m["name"] == "weights"}
        for name in ("train", "train-2-nodes", "generate", "import", "prefetch", "grade", "report", "train-cpu")
    }
    readers = {name: {True} for name in ("train", "train-2-nodes", "generate", "import")}
    assert mounts == {**readers, "prefetch": {False}, "grade": set(), "report": set(), "train-cpu": set()}
    for name in (*readers, "prefetch"):
        assert {"name": "POTSTILL_WEIGHTS", "value": "/weights"} in containers(built(name))[0]["env"]


def test_weights_are_fetched_once_for_a_base_and_a_volume_and_books_no_gpu() -> None:
    other = FROM_BUCKET.model_copy(update={"name": "other", "uid8": "0" * 8})
    names = {
        build_prefetch(frozen, profile(weightsClaim=claim), REFERENCE, "team")["metadata"]["name"]
        for frozen in (FROM_BUCKET, other)
        for claim in ("weights", "elsewhere")
    }
    assert len(names) == 2
    assert "limits" not in containers(built("prefetch"))[0]["resources"]


@pytest.mark.parametrize(
    ("location", "claim", "needed"),
    [
        ("s3://lab/bases/base", "weights", True),
        ("hub://Qwen/Qwen3@0123", "weights", True),
        ("/weights/base", "weights", False),
        ("s3://lab/bases/base", None, False),
    ],
)
def test_a_base_at_a_path_is_not_fetched(location: str, claim: str | None, needed: bool) -> None:
    base = ModelSource(location=location, content="sha256:" + "0" * 64)
    assert needs_prefetch(base, profile(weightsClaim=claim)) is needed


def test_a_profile_without_image_or_store_is_named() -> None:
    with pytest.raises(ValueError, match="profile h200 names no image for publish|for report"):
        build_job(FROZEN, report_task(), profile(report={}), REFERENCE, "team")
    with pytest.raises(ValueError, match="profile h200 names no store"):
        build_job(FROZEN, grade_task(), profile(store=None), REFERENCE, "team")


PLATFORM: dict[str, Any] = {
    "extraEnv": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
    "imagePullPolicy": "Always",
    "podLabels": {"team": "ml", "potstill": "ours"},
    "podAnnotations": {"sidecar.istio.io/inject": "false"},
    "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
}
REACHED: dict[str, Any] = {
    "caBundle": {"configMap": "authorities", "key": "all.pem"},
    "proxy": {"https": "http://proxy.test:3128", "noProxy": ".svc"},
    "store": {"url": "s3://lab/team", "secret": "store", "addressingStyle": "virtual"},
}


def platform_job(name: str) -> dict[str, Any]:
    """A golden Job under a profile with every setting of a platform."""
    roles = {role: getattr(profile(), role).model_dump(by_alias=True) | PLATFORM for role in ("train", "evaluate", "grade", "report")}  # fmt: skip
    stated = profile(**REACHED, **roles)
    if name == "prefetch":
        return build_prefetch(FROM_BUCKET, stated, REFERENCE, "team")
    return build_job(FROZEN, BUILT[name][0], stated, REFERENCE, "team")


@pytest.mark.parametrize("name", ["train", "generate", "import", "report", "prefetch", "grade"])
def test_a_platforms_own_settings_are_on_every_pod(name: str) -> None:
    job, plain = platform_job(name), built(name)
    template, spec = job["spec"]["template"], pod_of(job)
    assert template["metadata"]["labels"].items() >= plain["spec"]["template"]["metadata"]["labels"].items()
    assert template["metadata"]["labels"]["team"] == "ml"
    assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert (spec["affinity"], spec["topologySpreadConstraints"]) == (
        PLATFORM["affinity"],
        PLATFORM["topologySpreadConstraints"],
    )
    assert PLATFORM["volumes"][0] in spec["volumes"]
    for one in containers(job):
        assert one["imagePullPolicy"] == "Always"
        names, paths = {e["name"] for e in one["env"]}, {m["mountPath"] for m in one["volumeMounts"]}
        expected = {"HF_TOKEN", "HTTPS_PROXY", "NO_PROXY", "POTSTILL_CA_BUNDLE", "POTSTILL_S3_ADDRESSING"}
        mounted = {"/scratch", "/etc/potstill/ca-bundle", "/etc/potstill/store-keys"}
        if one["name"] == "execute":
            assert names == set()
            assert paths == {"/tmp", "/work"}
        else:
            assert expected <= names
            assert mounted <= paths


def test_the_keys_of_the_store_are_files_of_which_the_session_token_may_be_absent() -> None:
    [volume] = [one for one in pod_of(built("train"))["volumes"] if one["name"] == "store-keys"]
    needed, optional = (source["secret"] for source in volume["projected"]["sources"])
    assert ({item["key"] for item in needed["items"]}, "optional" in needed) == (CREDENTIALS, False)
    assert ([item["key"] for item in optional["items"]], optional["optional"]) == (["AWS_SESSION_TOKEN"], True)


def test_without_a_secret_there_are_no_keys_and_no_volume_of_them() -> None:
    job = build_job(FROZEN, train_task(), profile(store={"url": "s3://lab/team"}), REFERENCE, "team")
    assert not {"POTSTILL_S3_KEYS", *CREDENTIALS} & {e["name"] for e in containers(job)[0]["env"]}
    assert "store-keys" not in {volume["name"] for volume in pod_of(job)["volumes"]}


def test_a_proxys_password_is_not_taken_into_a_profile() -> None:
    with pytest.raises(ValueError, match="the URL holds a user name"):
        profile(proxy={"https": "http://lab:password@proxy.test:3128"})


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"podLabels": {"potstill.dev/role": "mine"}}, r"potstill\.dev/role is set by Potstill"),
        ({"podAnnotations": {"potstill.dev/task": "mine"}}, r"potstill\.dev/task is set by Potstill"),
        ({"volumes": [{"name": "work", "emptyDir": {}}]}, "a volume work exists already"),
    ],
)
def test_a_profile_takes_nothing_of_ours(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        profile(train=stated)
