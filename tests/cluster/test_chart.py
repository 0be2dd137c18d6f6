"""What the chart renders: valid objects, pods that `restricted` takes, and budgets and policies that mean what they say."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.harness import ApiRefusedError, ControlPlane
from tests.cluster.harness.pods import run_pod
from tests.cluster.schemas import kubeconform, write_schemas
from tests.kubernetes.tasks import built
from tests.tools.chart import OPTIONS, VALUES, WRONG, RefusedError, render
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests/kubernetes/golden"
VERSIONS = (
    "v1",
    "apps/v1",
    "batch/v1",
    "networking.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "potstill.dev/v1alpha1",
)
FOREIGN = "-skip=ServiceMonitor"
"""Of the Prometheus operator, which this API server does not know."""


@pytest.fixture(scope="module")
def schemas(plane: ControlPlane, crd: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(plane, folder, VERSIONS)
    return folder


@pytest.fixture(scope="module")
def rendered() -> str:
    return render(*VALUES, *OPTIONS)


@pytest.fixture(scope="module")
def everything(rendered: str) -> list[dict[str, Any]]:
    return list(yaml.load_all(rendered, Loader=yaml.CSafeLoader))


def the(kind: str, objects: list[dict[str, Any]], name: str = "") -> dict[str, Any]:
    [found] = [item for item in objects if item["kind"] == kind and name in item["metadata"]["name"]]
    return deepcopy(found)


def valid(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of them; fails with what is wrong."""
    assert [item for item in found if item["status"] not in {"statusValid", "statusSkipped"}] == []
    return found


def test_every_golden_object_is_valid(schemas: Path) -> None:
    text = "---\n".join(path.read_text() for path in sorted(GOLDEN.glob("*.yaml")))
    assert len(valid(kubeconform(schemas, text))) == len(list(GOLDEN.glob("*.yaml")))


def test_everything_the_chart_can_render_is_valid(schemas: Path, rendered: str) -> None:
    found = valid(kubeconform(schemas, rendered, FOREIGN))
    assert [item["kind"] for item in found if item["status"] == "statusSkipped"] == ["ServiceMonitor"]


@pytest.mark.parametrize(
    "file", ["k8s/crd.yaml", "k8s/install.yaml", *map(str, (REPOSITORY / "examples").glob("*.yaml"))]
)
def test_what_people_apply_is_valid(schemas: Path, file: str) -> None:
    assert valid(kubeconform(schemas, (REPOSITORY / file).read_text()))


@pytest.mark.parametrize(
    ("right", "wrong"), [("restartPolicy", "restartPolicies"), ("backoffLimit: 0", "backoffLimit: none")]
)
def test_a_mistake_in_a_job_is_found(schemas: Path, right: str, wrong: str) -> None:
    text = (GOLDEN / "train.yaml").read_text()
    assert right in text
    [found] = kubeconform(schemas, text.replace(right, wrong, 1))
    assert found["status"] == "statusInvalid"
    assert wrong.partition(":")[0] in found["msg"]


@pytest.mark.parametrize("name", WRONG)
def test_helm_refuses(name: str) -> None:
    with pytest.raises(
        RefusedError,
        match=r"image\.reference|/image/reference|store|additional properties|engine|/controller/evaluationPods",
    ):
        render(*VALUES, WRONG[name])


def test_the_charts_own_pods_keep_to_restricted(plane: ControlPlane, everything: list[dict[str, Any]]) -> None:
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    for item in everything:
        if item["kind"] == "ServiceAccount":
            plane.api.post(
                f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": item["metadata"]["name"]}}
            )
    deployed = the("Deployment", everything)["spec"]["template"] | {"kind": "Pod"}
    deployed["metadata"]["name"] = "controller"
    tested = the("Pod", everything, "test")
    tested["metadata"].pop("namespace", None)
    for pod in (deployed, tested):
        made = plane.api.post(f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict", pod)
        assert made["metadata"]["namespace"] == namespace


def test_only_the_controller_has_a_token(everything: list[dict[str, Any]]) -> None:
    accounts = [item for item in everything if item["kind"] == "ServiceAccount"]
    assert [account["automountServiceAccountToken"] for account in accounts] == [False, False]
    assert the("Deployment", everything)["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_a_limit_of_evaluation_pods_reaches_one_controller_at_a_time(everything: list[dict[str, Any]]) -> None:
    def told(deployment: dict[str, Any]) -> tuple[str | None, Any]:
        env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        values = {variable["name"]: variable.get("value") for variable in env}
        return values.get("POTSTILL_EVALUATION_PODS"), deployment["spec"].get("strategy", {}).get("rollingUpdate")

    assert told(the("Deployment", everything)) == ("4", {"maxSurge": 0, "maxUnavailable": 1})
    bare = list(yaml.load_all(render(*VALUES), Loader=yaml.CSafeLoader))
    assert told(the("Deployment", bare)) == (None, None)


def test_no_role_has_a_wildcard(everything: list[dict[str, Any]]) -> None:
    roles = [item for item in everything if item["kind"] in {"Role", "ClusterRole"}]
    assert {role["kind"] for role in roles} == {"Role"}
    words = [
        word
        for role in roles
        for rule in role["rules"]
        for kind in ("apiGroups", "resources", "verbs")
        for word in rule[kind]
    ]
    assert "*" not in words


def test_workloads_reach_the_store_and_no_node_metadata(everything: list[dict[str, Any]]) -> None:
    policy = the("NetworkPolicy", everything, "workloads")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    blocks = [
        (to["ipBlock"], rule["ports"]) for rule in policy["egress"] for to in rule.get("to", []) if "ipBlock" in to
    ]
    [(block, ports)] = blocks
    assert block == {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}
    assert [port["port"] for port in ports] == [443, 9000]


def test_prometheus_finds_the_metrics(everything: list[dict[str, Any]]) -> None:
    monitor, service = the("ServiceMonitor", everything), the("Service", everything)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [end["port"] for end in monitor["spec"]["endpoints"]] == [port["name"] for port in service["spec"]["ports"]]


def test_a_budget_for_trainings_holds_up_a_drain_and_nothing_else(
    plane: ControlPlane, everything: list[dict[str, Any]]
) -> None:
    namespace = plane.namespace()
    budget = the("PodDisruptionBudget", everything)
    budget["metadata"].pop("namespace", None)
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    plane.api.post(budgets, budget)
    plane.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "potstill-workloads"}})
    pods = f"/api/v1/namespaces/{namespace}/pods"
    for name in ("train-cpu", "report"):
        template = built(name)["spec"]["template"]
        run_pod(plane.api, plane.api.post(pods, template | {"metadata": template["metadata"] | {"name": name}}))
    path = f"{budgets}/{budget['metadata']['name']}"
    wait_until(lambda: plane.api.get(path).get("status", {}).get("currentHealthy") == 1, "the budget sees the training")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction"}
    with pytest.raises(ApiRefusedError, match="disruption budget"):
        plane.api.post(f"{pods}/train-cpu/eviction", eviction | {"metadata": {"name": "train-cpu"}})
    plane.api.post(f"{pods}/report/eviction", eviction | {"metadata": {"name": "report"}})
