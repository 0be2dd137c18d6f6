"""The chart's Deployment of the page: off by default, with its own read-only keys, and closed to other pods."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.harness import ControlPlane
from tests.cluster.schemas import kubeconform, write_schemas
from tests.tools.chart import VALUES, RefusedError, lint, render
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
ON = (
    *VALUES,
    "store.secret=store",
    "store.endpoint=https://s3.example:9000",
    "networkPolicies.storePort=9000",
    "caBundle.inline=-----BEGIN CERTIFICATE-----",
    "proxy.https=http://proxy.example:3128",
    "imagePullSecrets={registry}",
    "ui.enabled=true",
    "ui.storeSecret=store-read",
    "ui.allowHosts={potstill.lab.example}",
    "ui.from[0].podSelector.matchLabels.app=proxy",
    "ui.nodeSelector.pool=cpu",
    "ui.tolerations[0].operator=Exists",
)


def objects(*values: str) -> list[dict[str, Any]]:
    """Those of the page."""
    found = yaml.load_all(render(*values), Loader=yaml.CSafeLoader)
    return [item for item in found if item["metadata"]["name"] == "potstill-ui"]


def of_kind(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    [one] = [item for item in found if item["kind"] == kind]
    return one


def test_it_is_off_by_default() -> None:
    assert objects(*VALUES) == []


def test_its_objects_are_valid_and_its_pod_keeps_to_restricted(plane: ControlPlane, tmp_path: Path) -> None:
    lint(*ON)
    write_schemas(plane, tmp_path, ("v1", "apps/v1", "networking.k8s.io/v1"))
    found = objects(*ON)
    assert {item["kind"] for item in found} == {"ServiceAccount", "Service", "Deployment", "NetworkPolicy"}
    checked = kubeconform(tmp_path, yaml.safe_dump_all(found))
    assert [item for item in checked if item["status"] != "statusValid"] == []
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    account = {"metadata": {"name": "potstill-ui"}}
    plane.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    pod = of_kind("Deployment", found)["spec"]["template"] | {"kind": "Pod"}
    pod["metadata"]["name"] = "ui"
    pods = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
    assert wait_until(lambda: plane.api.post(pods, pod), "the pod is taken")["metadata"]["namespace"] == namespace


def test_it_has_keys_of_its_own_and_no_token() -> None:
    found = objects(*ON)
    spec = of_kind("Deployment", found)["spec"]["template"]["spec"]
    assert of_kind("ServiceAccount", found)["automountServiceAccountToken"] is False
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("potstill-ui", False)
    secrets = {source["secret"]["name"] for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", [])}  # fmt: skip
    assert secrets == {"store-read"}
    [container] = spec["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    assert env["POTSTILL_STORE"] == "s3://bucket/prefix"
    assert env["POTSTILL_S3_KEYS"] == "/etc/potstill/store-keys"


def test_keys_that_can_write_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"ui\.storeSecret: name a Secret with keys that may only read"):
        render(*VALUES, "store.secret=store", "ui.enabled=true")
    assert of_kind("Deployment", objects(*VALUES, "ui.enabled=true"))  # a role of the service account


def test_its_arguments_are_the_commands_and_probes_state_a_name_that_is_allowed() -> None:
    [container] = of_kind("Deployment", objects(*ON))["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-P", "-m", "controller.cli"]
    hosts = [word.partition("=")[2] for word in container["args"] if word.startswith("--allow-host=")]
    assert hosts == ["potstill-ui", "potstill-ui.team", "potstill-ui.team.svc", "potstill.lab.example"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_only_stated_pods_reach_it() -> None:
    closed = of_kind("NetworkPolicy", objects(*VALUES, "ui.enabled=true"))["spec"]
    assert (closed["policyTypes"], closed["ingress"]) == (["Ingress", "Egress"], [])
    opened = of_kind("NetworkPolicy", objects(*ON))["spec"]
    assert opened["ingress"] == [
        {"from": [{"podSelector": {"matchLabels": {"app": "proxy"}}}], "ports": [{"protocol": "TCP", "port": "http"}]}
    ]
    assert (
        opened["podSelector"]["matchLabels"] == of_kind("Deployment", objects(*ON))["spec"]["selector"]["matchLabels"]
    )
    assert opened["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "ui"
    assert [port["port"] for port in opened["egress"][1]["ports"]] == [443, 9000]
    assert "NetworkPolicy" not in {item["kind"] for item in objects(*ON, "networkPolicies.enabled=false")}


def test_it_takes_nothing_from_the_controllers_service_and_policy() -> None:
    everything = list(yaml.load_all(render(*ON), Loader=yaml.CSafeLoader))
    labels = of_kind("Deployment", objects(*ON))["spec"]["template"]["metadata"]["labels"]
    for item in everything:
        selector = item.get("spec", {}).get("selector") if item["kind"] == "Service" else None
        if item["kind"] == "NetworkPolicy":
            selector = item["spec"]["podSelector"].get("matchLabels")
        if selector and item["metadata"]["name"] != "potstill-ui":
            assert not selector.items() <= labels.items()
