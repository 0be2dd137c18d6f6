"""No sequence of Helm's and kubectl's commands deletes the definition of Experiments, and with it every Experiment.

Helm and the control plane are real. `before` is the chart of commit 3fdd7a5, which contained the definition, and its
k8s/crd.yaml, which was not protected from deletion.
"""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.harness import ControlPlane, control_plane
from tests.tools.chart import CHART, CRDS, IMAGE
from tests.tools.processes import wait_until
from tests.tools.programs import program

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).parents[2]
DEFINITION = "experiments.potstill.dev"
VALUES = (f"--set=image.reference={IMAGE}", "--set=store.url=s3://bucket/team")
QUICKSTART = REPOSITORY / "examples/quickstart.yaml"
KEEP = ("annotate", "crd", DEFINITION, "helm.sh/resource-policy=keep")


@dataclass
class Cluster:
    """A cluster in which another team's Experiment is live, once `apply_quickstart` was called."""

    plane: ControlPlane
    kubeconfig: Path
    uid: str = ""

    def helm(self, *words: str) -> str:
        done = self._helm(words)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr}"
        return done.stdout

    def helm_refuses(self, *words: str) -> str:
        done = self._helm(words)
        assert done.returncode != 0, f"helm {' '.join(words)} succeeded: {done.stdout}"
        return done.stderr

    def _helm(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig)}
        command = [str(program("helm")), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def kubectl(self, *words: str, namespace: str | None = None, stdin: str | None = None) -> str:
        return self.plane.kubectl(*words, namespace=namespace, stdin=stdin)

    def apply_quickstart(self) -> None:
        wait_until(self._served, "experiments are served")
        self.kubectl("apply", "-f", str(QUICKSTART), namespace="others")
        self.uid = self._quickstart_uid()

    def has_lost_nothing(self) -> bool:
        """The other team's Experiment is the one that it was."""
        return self._quickstart_uid() == self.uid

    def definition(self) -> dict[str, Any]:
        return self.plane.api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{DEFINITION}")

    def _quickstart_uid(self) -> str:
        return self.kubectl("get", "pexp", "quickstart", "-o", "jsonpath={.metadata.uid}", namespace="others")

    def _served(self) -> bool:
        return "experiments" in self.kubectl(
            "api-resources", "--api-group=potstill.dev", "--no-headers", "--cached=false"
        )


@pytest.fixture(scope="module")
def running() -> Iterator[ControlPlane]:
    """A control plane for this file alone, because other tests need the definition to stay."""
    with control_plane() as plane:
        for name in ("others", "ours", "third"):
            plane.kubectl("create", "namespace", name)
        yield plane


@pytest.fixture
def cluster(running: ControlPlane) -> Iterator[Cluster]:
    """A cluster without releases and without the definition."""
    cluster = Cluster(running, running.kubeconfig())
    yield cluster
    for line in filter(None, cluster.helm("list", "-A", "--no-headers").splitlines()):
        name, namespace = line.split()[:2]
        cluster.helm("uninstall", name, "-n", namespace)
    cluster.kubectl("delete", "crd", DEFINITION, "--ignore-not-found", "--wait")
    cluster.kubectl("delete", "role,rolebinding,deploy,service,configmap,netpol", "--all", namespace="third")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of commit 3fdd7a5, and its k8s/crd.yaml."""
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(REPOSITORY / "tests/upgrade/chart-3fdd7a5.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_sequence_that_deleted_everything_is_stopped_and_says_how_to_go_on(cluster: Cluster, before: Path) -> None:
    chart, ours = str(before / "charts/potstill"), ("-n", "ours", *VALUES)
    cluster.kubectl("apply", "-f", str(before / "k8s/crd.yaml"))
    cluster.apply_quickstart()
    assert "cannot be imported" in cluster.helm_refuses("install", "potstill", chart, *ours)
    taken = cluster.helm_refuses("install", "potstill", chart, *ours, "--take-ownership")
    assert "conflict" in taken
    assert cluster.has_lost_nothing()
    for flags in ((), ("--set=crds.enabled=false",), ("--take-ownership",), ("--force-conflicts",)):
        said = cluster.helm_refuses("upgrade", "--install", "potstill", str(CHART), *ours, *flags)
        assert f"kubectl annotate crd {DEFINITION} helm.sh/resource-policy=keep" in said
        assert cluster.has_lost_nothing()
    cluster.kubectl(*KEEP)
    cluster.helm("upgrade", "--install", "potstill", str(CHART), *ours, "--set=crds.enabled=false")
    assert cluster.has_lost_nothing()
    cluster.helm("uninstall", "potstill", "-n", "ours")
    assert cluster.has_lost_nothing()


def test_a_release_of_the_chart_before_is_upgraded_without_loss(cluster: Cluster, before: Path) -> None:
    ours = ("-n", "ours", *VALUES)
    cluster.helm("install", "potstill", str(before / "charts/potstill"), *ours)
    cluster.apply_quickstart()
    deployment = cluster.kubectl("get", "deploy", "-o", "jsonpath={.items[*].metadata.uid}", namespace="ours")
    upgrade = ("upgrade", "potstill", str(CHART), "-n", "ours")
    assert "--reset-then-reuse-values in place of" in cluster.helm_refuses(*upgrade, "--reuse-values")
    cluster.helm(*upgrade, "--reset-then-reuse-values")
    assert cluster.has_lost_nothing()
    assert cluster.kubectl("get", "deploy", "-o", "jsonpath={.items[*].metadata.uid}", namespace="ours") == deployment
    own = ("potstill-crds", str(CRDS), "-n", "third")
    assert "cannot be imported" in cluster.helm_refuses("upgrade", "--install", *own)
    cluster.helm("upgrade", "--install", *own, "--take-ownership", "--server-side=true", "--force-conflicts")
    assert cluster.has_lost_nothing()
    assert "Default: true" in yaml.safe_dump(cluster.definition(), width=10000), "it is the new one"
    for name, namespace in (("potstill", "ours"), ("potstill-crds", "third")):
        cluster.helm("uninstall", name, "-n", namespace)
        assert cluster.has_lost_nothing()


def test_a_definition_that_kubectl_applied_is_used_taken_over_and_kept(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", str(REPOSITORY / "k8s/crd.yaml"))
    cluster.apply_quickstart()
    cluster.helm("install", "potstill", str(CHART), "-n", "ours", *VALUES)
    own = ("potstill-crds", str(CRDS), "-n", "third")
    assert "cannot be imported" in cluster.helm_refuses("install", *own)
    cluster.helm("install", *own, "--take-ownership")  # the text is the same: there is no conflict to force
    assert cluster.has_lost_nothing()
    cluster.helm("upgrade", "potstill-crds", str(CRDS), "-n", "third", "--set=aggregateRoles=false")
    cluster.helm("rollback", "potstill-crds", "1", "-n", "third")
    cluster.helm("uninstall", "potstill-crds", "-n", "third")
    assert cluster.has_lost_nothing()
    assert cluster.definition()["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_server_side_apply_and_helm_write_the_same_definition(cluster: Cluster) -> None:
    applied = ("apply", "--server-side", "-f", str(REPOSITORY / "k8s/crd.yaml"))
    cluster.kubectl(*applied)
    cluster.kubectl(*applied, "--field-manager=flux")
    cluster.helm("install", "potstill-crds", str(CRDS), "-n", "third", "--take-ownership")
    cluster.kubectl(*applied)


def test_two_commands_install_it_and_one_more_a_second_namespace_or_name(cluster: Cluster) -> None:
    cluster.helm("install", "potstill-crds", str(CRDS), "-n", "third")
    cluster.apply_quickstart()
    assert "does not know the kind" not in cluster.helm("install", "potstill", str(CHART), "-n", "ours", *VALUES)
    cluster.helm("install", "potstill", str(CHART), "-n", "others", *VALUES)
    cluster.helm("uninstall", "potstill", "-n", "ours")
    cluster.helm("install", "another-name", str(CHART), "-n", "ours", *VALUES)
    cluster.helm("uninstall", "potstill", "-n", "others")
    assert cluster.has_lost_nothing()

    def is_allowed(*words: str) -> bool:
        return "yes" in cluster.kubectl("auth", "can-i", *words, namespace="others")

    for verb, role in (("create", "edit"), ("get", "view")):
        cluster.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}er", namespace="others")
        wait_until(partial(is_allowed, verb, "experiments.potstill.dev", f"--as={role}er"), f"{role} holds Experiments")


def test_without_the_definition_the_notes_say_what_is_missing(cluster: Cluster) -> None:
    said = cluster.helm("install", "potstill", str(CHART), "-n", "ours", *VALUES)
    assert "The cluster does not know the kind Experiment yet" in said


def test_an_umbrella_chart_switches_it_on_and_off(cluster: Cluster, tmp_path: Path) -> None:
    parts = {"potstill": CHART, "potstill-crds": CRDS}
    dependencies = [
        {"name": name, "version": "0.1.0", "repository": chart.as_uri(), "condition": f"{name}.enabled"}
        for name, chart in parts.items()
    ]
    about = {"apiVersion": "v2", "name": "lab", "version": "1.0.0", "dependencies": dependencies}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(about))
    for name, chart in parts.items():
        shutil.copytree(chart, tmp_path / "charts" / name)
    values = ("--set=potstill.image.reference=" + IMAGE, "--set=potstill.store.url=s3://bucket/team")
    cluster.helm("install", "lab", str(tmp_path), "-n", "third", *values, "--set=potstill.enabled=true")
    cluster.apply_quickstart()
    assert "lab-controller" in cluster.kubectl("get", "deploy", namespace="third")
    cluster.helm("upgrade", "lab", str(tmp_path), "-n", "third", "--set=potstill.enabled=false")
    assert "lab-controller" not in cluster.kubectl("get", "deploy", namespace="third")
    cluster.helm(
        "upgrade", "lab", str(tmp_path), "-n", "third", "--set=potstill.enabled=false,potstill-crds.enabled=false"
    )
    assert cluster.has_lost_nothing()


def test_install_yaml_is_refused_in_another_namespace_and_an_overlay_moves_all_of_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.kubectl("apply", "-f", str(REPOSITORY / "k8s/crd.yaml"))
    with pytest.raises(AssertionError, match='does not match the namespace "third"'):
        cluster.kubectl("apply", "-f", str(REPOSITORY / "k8s/install.yaml"), namespace="third")
    shutil.copytree(REPOSITORY / "k8s", tmp_path / "k8s")
    page = (REPOSITORY / "docs/kubernetes.md").read_text()
    overlay = page.partition("# kustomization.yaml\n")[2].partition("```")[0]
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("namespace: team", "namespace: third"))
    cluster.kubectl("apply", "-k", str(tmp_path))
    account = "--as=system:serviceaccount:third:potstill-controller"
    assert "yes" in cluster.kubectl("auth", "can-i", "create", "jobs.batch", account, namespace="third")
    template = "jsonpath={.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].value}"
    told = cluster.kubectl("get", "deploy", "potstill-controller", "-o", template, namespace="third")
    assert told == f"registry/potstill-controller@sha256:{'1' * 64} s3://lab/team"


def test_an_applied_experiment_is_unchanged_when_it_is_applied_again(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", str(REPOSITORY / "k8s/crd.yaml"))
    cluster.apply_quickstart()
    for example in sorted((REPOSITORY / "examples").glob("*.yaml")):
        item = yaml.safe_load(example.read_text())
        cluster.kubectl("apply", "-f", str(example), namespace="ours")
        assert "unchanged" in cluster.kubectl("apply", "-f", str(example), namespace="ours")
        stored = yaml.safe_load(
            cluster.kubectl("get", "pexp", item["metadata"]["name"], "-o", "yaml", namespace="ours")
        )
        assert lists_of(stored["spec"]) == lists_of(item["spec"]), "Argo CD compares lists whole"


def lists_of(value: Any, path: str = "") -> dict[str, Any]:
    """Each list of a spec by its path."""
    if isinstance(value, list):
        return {path: value}
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in lists_of(item, f"{path}.{name}").items()}
    return {}


def test_an_experiment_stored_with_defaults_in_its_lists_may_be_applied_again_but_not_changed(
    cluster: Cluster, before: Path
) -> None:
    cluster.kubectl("apply", "-f", str(before / "k8s/crd.yaml"))
    cluster.apply_quickstart()
    stored = yaml.safe_load(cluster.kubectl("get", "pexp", "quickstart", "-o", "yaml", namespace="others"))
    assert stored["spec"]["runs"][0]["thinking"] is not None
    cluster.kubectl("apply", "-f", str(REPOSITORY / "k8s/crd.yaml"))
    wait_until(
        lambda: (
            "default" not in cluster.kubectl("explain", "pexp.spec.runs.thinking").lower().partition("description")[0]
        ),
        "the new schema is served",
    )
    cluster.kubectl("apply", "-f", str(QUICKSTART), namespace="others")
    assert cluster.has_lost_nothing()
    item = yaml.safe_load(QUICKSTART.read_text())
    for field, value in (("thinking", not item["spec"]["runs"][0].get("thinking", True)), ("samples", 7)):
        changed = yaml.safe_load(QUICKSTART.read_text())
        changed["spec"]["runs"][0][field] = value
        with pytest.raises(AssertionError, match="this run is part of a live experiment"):
            cluster.kubectl("apply", "-f", "-", namespace="others", stdin=yaml.safe_dump(changed))
