"""What the chart renders: valid objects, pods that `restricted` takes, and budgets and policies that mean what they say."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.executors.kubernetes.metrics import Metrics
from controller.experiment.profile import CaBundle, Profile, Proxy
from tests.cluster.harness import ApiRefusedError, ControlPlane
from tests.cluster.harness.pods import run_pod
from tests.cluster.schemas import kubeconform, write_schemas
from tests.kubernetes.tasks import built
from tests.tools.chart import CRDS, OPTIONS, VALUES, WRONG, RefusedError, render
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
FOREIGN = "-skip=ServiceMonitor,PrometheusRule"
"""Skips the kinds of the Prometheus operator, which this API server does not know."""


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
    skipped = {item["kind"] for item in found if item["status"] == "statusSkipped"}
    assert skipped == {"ServiceMonitor", "PrometheusRule"}


def test_the_chart_of_the_definition_is_valid(schemas: Path) -> None:
    valid(kubeconform(schemas, render(chart=CRDS)))


@pytest.mark.parametrize(
    "file", ["k8s/crd.yaml", "k8s/install.yaml", *map(str, (REPOSITORY / "examples").glob("*.yaml"))]
)
def test_files_that_people_apply_are_valid(schemas: Path, file: str) -> None:
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
        match=r"image\.reference|/image/reference|store|additional properties|engine"
        r"|/controller/(evaluationPods|logLevel|extraEnv|replicas|namespaces)|/proxy/https|/caBundle/inline",
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


def test_each_namespace_that_is_served_has_rights_accounts_and_policies() -> None:
    objects = rendered_with("controller.namespaces={team-a,team-b}", "podDisruptionBudget.trainings=true")
    own = {item["metadata"]["namespace"] for item in objects if item["kind"] == "Deployment"}
    workloads = ("potstill-workloads", "potstill-trainings")
    placed = {(item["kind"], item["metadata"]["name"]): set[str]() for item in objects if item["kind"] != "Deployment"}
    for item in objects:
        if item["kind"] != "Deployment":
            placed[item["kind"], item["metadata"]["name"]].add(item["metadata"]["namespace"])
    for (kind, name), namespaces in placed.items():
        if kind in ("Role", "RoleBinding"):
            assert namespaces == {*own, "team-a", "team-b"}, name
        elif name in workloads:
            assert namespaces == {"team-a", "team-b"}, name
        else:
            assert namespaces == own, name
    bound = [subject for item in objects if item["kind"] == "RoleBinding" for subject in item["subjects"]]
    assert {subject["namespace"] for subject in bound} == own
    [deployment] = [item for item in objects if item["kind"] == "Deployment"]
    env = {e["name"]: e.get("value") for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["POTSTILL_NAMESPACES"] == "team-a team-b"


def rendered_with(*values: str) -> list[dict[str, Any]]:
    return list(yaml.load_all(render(*VALUES, *values), Loader=yaml.CSafeLoader))


def test_the_controllers_pod_has_what_its_values_say(everything: list[dict[str, Any]]) -> None:
    template = the("Deployment", everything)["spec"]["template"]
    spec, container = template["spec"], template["spec"]["containers"][0]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert template["metadata"]["labels"]["team"] == "ml"
    assert template["metadata"]["annotations"]["note"] == "ours"
    assert spec["priorityClassName"] == "system-cluster-critical"
    [isolated] = [item for item in rendered_with("controller.runtimeClassName=gvisor") if item["kind"] == "Deployment"]
    assert isolated["spec"]["template"]["spec"]["runtimeClassName"] == "gvisor"
    assert {"affinity", "topologySpreadConstraints", "tolerations", "nodeSelector"} <= spec.keys()
    assert container["imagePullPolicy"] == "Always"
    assert (
        env.items()
        >= {
            "EXTRA": "stated",
            "POTSTILL_LOG_LEVEL": "debug",
            "POTSTILL_S3_ADDRESSING": "virtual",
            "POTSTILL_S3_KEYS": "/etc/potstill/store-keys",
            "POTSTILL_CA_BUNDLE": "/etc/potstill/ca-bundle/ca.crt",
            "HTTPS_PROXY": "http://proxy.example:3128",
            "NO_PROXY": ".lab.example,$(KUBERNETES_SERVICE_HOST),.svc,.cluster.local,localhost,127.0.0.1",
        }.items()
    )
    assert "AWS_SECRET_ACCESS_KEY" not in env, "the keys are files"
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.items() >= {"extra": "/extra", "ca-bundle": "/etc/potstill/ca-bundle"}.items()
    assert mounted.keys() == {volume["name"] for volume in spec["volumes"]}


def test_profiles_have_the_releases_store_cas_proxy_and_pull_secrets(everything: list[dict[str, Any]]) -> None:
    stated = Profile.model_validate(yaml.safe_load(the("ConfigMap", everything, "profiles")["data"]["h200.yaml"]))
    assert stated.store is not None
    assert (stated.store.secret, stated.store.addressing_style) == ("store", "virtual")
    assert stated.ca_bundle == CaBundle(config_map="potstill-ca-bundle", key="ca.crt")
    assert stated.proxy == Proxy(https="http://proxy.example:3128", no_proxy=".lab.example")
    assert stated.image_pull_secrets == ["registry"]
    assert "BEGIN CERTIFICATE" in the("ConfigMap", everything, "ca-bundle")["data"]["ca.crt"]


def test_names_and_accounts_can_be_the_users_own() -> None:
    objects = rendered_with("fullnameOverride=lab", "controller.serviceAccount.create=false", "controller.serviceAccount.name=own")  # fmt: skip
    assert the("Deployment", objects)["spec"]["template"]["spec"]["serviceAccountName"] == "own"
    assert the("RoleBinding", objects)["subjects"] == [{"kind": "ServiceAccount", "name": "own", "namespace": "team"}]
    assert the("ServiceAccount", objects)["metadata"]["name"] == "lab-workloads"
    assert all(item["metadata"]["name"].startswith("lab-") for item in objects)
    named = rendered_with("nameOverride=tuning")
    assert the("Deployment", named)["metadata"]["name"] == "potstill-tuning-controller"
    assert not [item for item in rendered_with("rbac.create=false") if item["kind"].startswith("Role")]


def test_the_release_holds_no_definition_and_every_object_names_its_namespace(everything: list[dict[str, Any]]) -> None:
    assert {item["metadata"]["namespace"] for item in everything} == {"team"}
    assert "CustomResourceDefinition" not in {item["kind"] for item in everything}


def test_an_umbrella_charts_condition_is_taken() -> None:
    assert rendered_with("enabled=true", "global.registry=mine") == rendered_with()


def test_alerts_name_metrics_that_the_controller_has(everything: list[dict[str, Any]]) -> None:
    metrics = Metrics()
    metrics.reconciled(("team", "x"), "error", 1.0)
    known = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    known |= {family.name for family in metrics.registry.collect()} | {"up"}
    rules = the("PrometheusRule", everything)["spec"]["groups"][0]["rules"]
    for rule in rules:
        assert set(re.findall(r"([a-z_]+)\{", rule["expr"])) <= known
        assert rule["annotations"]["summary"]


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
    store: dict[str, list[dict[str, Any]]] = {"443": [], "80": [], "987": []}
    for block, ports in blocks:
        store[str(ports[0]["port"])].append(block)
    assert store["443"] == [
        {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]},
        {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::/32"]},
    ]
    assert [port["port"] for _, ports in blocks[:1] for port in ports] == [443, 9000]
    bare = the("NetworkPolicy", list(yaml.load_all(render(*VALUES), Loader=yaml.CSafeLoader)), "workloads")["spec"]
    agents = [to["ipBlock"]["cidr"] for rule in bare["egress"] for to in rule.get("to", []) if "ipBlock" in to][2:]
    assert agents == ["169.254.170.23/32", "fd00:ec2::23/128"]
    metadata = {"169.254.169.254/32", "fd00:ec2::254/128", "169.254.169.252/32"}
    assert {block["cidr"] for block in store["80"] + store["987"]} == {*agents, *metadata}


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
