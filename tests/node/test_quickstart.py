"""What a user does: helm install, kubectl apply -f examples/quickstart.yaml, wait, read the report. And what clusters do."""

from collections.abc import Callable, Iterator

import pytest

from tests.node.images import REPOSITORY
from tests.node.lab import Lab, lab
from tests.node.node import NAME, Node
from tests.node.s3 import ClusterS3
from tests.tools.processes import wait_until
from workloads.contract.manifest import Manifest

QUICKSTART = str(REPOSITORY / "examples" / "quickstart.yaml")


@pytest.fixture(scope="module")
def quiet(
    node: Node, s3: ClusterS3, image: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A lab in which the quickstart ran from apply to its end without disturbance."""
    with lab(node, s3, image, tmp_path_factory.mktemp("quiet")) as made:
        made.kubectl("apply", "-f", QUICKSTART)
        made.wait_finished()
        yield made


def results(manifest: Manifest) -> dict[str, object]:
    """What an experiment found, without times, attempts and the experiment's own name."""
    return {
        "state": manifest.state,
        "models": [(model.id, model.state, model.content) for model in manifest.models],
        "evaluations": [
            (found.model, found.benchmark, found.part, found.finish, [budget.verdicts for budget in found.budgets])
            for found in manifest.evaluations
        ],
    }


def test_the_quickstart_succeeds_and_its_report_is_in_the_store(quiet: Lab) -> None:
    assert quiet.wait_finished() == "Succeeded", quiet.experiment()["status"]
    report = [key for key in quiet.keys(f"{quiet.results_folder()}/report/") if key.endswith(".html")]
    assert report, quiet.keys(quiet.results_folder())
    page = quiet.read(report[0]).decode()
    assert "Math truncated" in page
    assert "Math dropped" in page


def test_kubectl_tells_how_it_went(quiet: Lab) -> None:
    row = quiet.kubectl("get", "pexp", "quickstart").splitlines()
    assert row[0].split()[0] == "NAME"
    assert "Succeeded" in row[1]
    assert "Finished" in quiet.kubectl("describe", "pexp", "quickstart")


def test_a_deleted_training_a_killed_controller_and_a_drained_node_change_no_result(
    node: Node, s3: ClusterS3, image: Callable[[str], str], quiet: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with lab(node, s3, image, tmp_path_factory.mktemp("disturbed")) as disturbed:
        disturbed.kubectl("apply", "-f", QUICKSTART)
        disturbed.wait_for_pod("train")
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
        assert results(disturbed.manifest()) == results(quiet.manifest())
