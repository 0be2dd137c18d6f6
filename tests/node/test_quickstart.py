"""A user's steps: helm install, kubectl apply -f examples/quickstart.yaml, wait, read the report. And faults of the
cluster.

The tests are one story, in their order: the first lab is read, upgraded while it runs, and uninstalled at the end.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.harness.audit import created_jobs
from tests.faults.cluster_play import doubled_jobs
from tests.faults.drive import Played, as_line, drive
from tests.faults.schedules import Fault, Schedule
from tests.node.faults import NodeRun
from tests.node.images import REPOSITORY
from tests.node.lab import CHART, CRD, RELEASE, Lab, lab
from tests.node.node import NAME, Node
from tests.node.s3 import ClusterS3
from tests.tools.processes import wait_until
from workloads.api.manifest import Manifest
from workloads.storage.content_digest import directory_content, weights_name

QUICKSTART = REPOSITORY / "examples" / "quickstart.yaml"
BASE = REPOSITORY / "examples" / "quickstart" / "base"
RUN, BENCHMARKS = "math_drop", ("sums", "lists")
"""The part of the quickstart that is repeated under disturbance."""


def chart_before(folder: Path) -> Path:
    """The same chart with an older version number."""
    chart = shutil.copytree(CHART, folder / "before")
    about = yaml.safe_load((chart / "Chart.yaml").read_text()) | {"version": "0.0.9", "appVersion": "0.0.9"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    return chart


@pytest.fixture(scope="module")
def quiet(
    node: Node, s3: ClusterS3, image: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A lab in which the quickstart ran from apply to its end. The release was upgraded during training."""
    folder = tmp_path_factory.mktemp("quiet")
    with lab(node, s3, image, folder) as made:
        made.install(
            chart_before(folder),
            "--set=networkPolicies.enabled=false",
            "--set=controller.resources.limits.memory=768Mi",
        )
        made.kubectl("apply", "-f", str(QUICKSTART))
        made.wait_for_pod("train")
        made.upgrade()
        assert made.experiment()["status"]["phase"] == "Running", "it was running during the upgrade"
        made.wait_finished()
        yield made


def results(manifest: Manifest, runs: tuple[str, ...]) -> dict[str, object]:
    """Returns the results of these runs and the base on BENCHMARKS, without times, attempts and the experiment's own
    name.
    """
    models = [model for model in manifest.models if model.run is None or model.run in runs]
    names = {model.id for model in models}
    return {
        "models": [(model.id, model.state, model.content) for model in models],
        "evaluations": [
            (found.model, found.benchmark, found.part, found.finish, [budget.verdicts for budget in found.budgets])
            for found in manifest.evaluations
            if found.model in names and found.benchmark in BENCHMARKS
        ],
    }


def part_of_the_quickstart(base: str) -> dict[str, Any]:
    """Returns an experiment with the same benchmarks, fewer runs, and the same base at another place."""
    item: dict[str, Any] = yaml.safe_load(QUICKSTART.read_text())
    spec = item["spec"]
    spec["base"] = {"model": base, "content": directory_content(BASE)}
    spec["runs"] = [run for run in spec["runs"] if run["name"] == RUN]
    asked = spec["evaluation"]["benchmarks"]
    spec["evaluation"]["benchmarks"] = [benchmark for benchmark in asked if benchmark["name"] in BENCHMARKS]
    return item


def test_the_quickstart_succeeds_and_its_report_is_in_the_store(quiet: Lab) -> None:
    assert quiet.wait_finished() == "Succeeded", quiet.experiment()["status"]
    report = [key for key in quiet.keys(f"{quiet.results_folder()}/report/") if key.endswith(".html")]
    assert report, quiet.keys(quiet.results_folder())
    page = quiet.read(report[0]).decode()
    assert "Math truncated" in page
    assert "Math dropped" in page


def test_an_upgrade_of_the_release_touched_no_work(quiet: Lab) -> None:
    assert "potstill-0.1.0" in quiet.helm("list", "--filter", RELEASE)
    assert [run.attempts for run in quiet.manifest().runs] == [1, 1]
    assert {evaluation.generate_attempts for evaluation in quiet.manifest().evaluations} == {1}


def test_kubectl_shows_how_it_ended(quiet: Lab) -> None:
    row = quiet.kubectl("get", "pexp", "quickstart").splitlines()
    assert row[0].split()[0] == "NAME"
    assert "Succeeded" in row[1]
    assert "Finished" in quiet.kubectl("describe", "pexp", "quickstart")


def test_helm_test_finds_the_controller_ready(quiet: Lab) -> None:
    assert "Succeeded" in quiet.helm("test", RELEASE, "--timeout=3m")


def test_a_deleted_training_a_killed_controller_and_a_drained_node_change_no_result(
    node: Node, s3: ClusterS3, image: Callable[[str], str], quiet: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with lab(node, s3, image, tmp_path_factory.mktemp("disturbed")) as disturbed:
        volume = tmp_path_factory.mktemp("weights")
        disturbed.make_weights_volume(volume)
        disturbed.install(CHART, "--set=profiles.default.weightsClaim=weights")
        item = part_of_the_quickstart(disturbed.upload(BASE, "bases/quickstart"))
        disturbed.kubectl("apply", "-f", "-", stdin=json.dumps(item))
        wait_until(
            lambda: any("/markers/checkpoint" in key for key in disturbed.keys("units/train/")), "a checkpoint", 900
        )
        disturbed.kubectl("delete", "pod", disturbed.wait_for_pod("train"), "--wait=false")
        controllers = ("-l", "app.kubernetes.io/component=controller")
        disturbed.kubectl("delete", "pod", *controllers, "--grace-period=0", "--force")
        disturbed.wait_for_pod("evaluate")
        drain = (
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--pod-selector=app.kubernetes.io/part-of=potstill",
        )
        disturbed.kubectl("drain", NAME, *drain)
        disturbed.kubectl("uncordon", NAME)
        assert disturbed.wait_finished() == "Succeeded", disturbed.experiment()["status"]
        assert sum(run.attempts for run in disturbed.manifest().runs) > 1, "the training was disturbed"
        assert results(disturbed.manifest(), (RUN,)) == results(quiet.manifest(), (RUN,))
        assert [path.name for path in volume.iterdir()] == [weights_name(directory_content(BASE))], "read from there"


FAULTS = Schedule(
    920,
    "s3",
    (
        Fault("kubelet restart", after=1, delay_seconds=0.0, lasts_seconds=2.0),
        Fault("kill train", after=1, delay_seconds=1.0, lasts_seconds=0.5),
        Fault("node lost", after=3, delay_seconds=0.0, lasts_seconds=0.5),
        Fault("etcd killed", after=5, delay_seconds=0.0, lasts_seconds=2.0),
        Fault("helm upgrade", after=7, delay_seconds=0.0, lasts_seconds=0.5),
        Fault("containerd killed", after=9, delay_seconds=0.0, lasts_seconds=2.0),
        Fault("API server killed", after=11, delay_seconds=0.0, lasts_seconds=2.0),
    ),
)


def test_a_lost_node_restarts_of_every_part_and_an_upgrade_change_no_result_and_double_no_job(
    node: Node, s3: ClusterS3, image: Callable[[str], str], quiet: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with lab(node, s3, image, tmp_path_factory.mktemp("faults")) as disturbed:
        disturbed.install()
        played = Played(FAULTS)
        drive(NodeRun(disturbed, part_of_the_quickstart("quickstart/base")), FAULTS, played, 1800)
        print(as_line(played))
        assert [one.fault for one in played.recoveries if one.seconds is None] == [], "all came while it worked"
        assert results(disturbed.manifest(), (RUN,)) == results(quiet.manifest(), (RUN,))
        assert doubled_jobs(created_jobs(node.plane, disturbed.namespace)) == []


def test_an_uninstalled_release_leaves_the_crd_the_experiments_and_the_results(quiet: Lab) -> None:
    before = quiet.keys("")
    quiet.helm("uninstall", RELEASE, "--wait")
    assert not quiet.node.plane.api.items(f"/apis/apps/v1/namespaces/{quiet.namespace}/deployments")
    assert quiet.node.plane.api.exists(CRD)
    assert quiet.experiment()["status"]["phase"] == "Succeeded"
    assert quiet.keys("") == before
