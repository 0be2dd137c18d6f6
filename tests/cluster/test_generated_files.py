"""The generated YAML says to kubectl what the code says to the API server."""

import json
from pathlib import Path

import pytest

from controller.crd import experiment_crd
from tests.cluster.harness import ControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("file", ["k8s/crd.yaml", "charts/potstill-crds/files/crd.yaml"])
def test_the_crd_that_kubectl_applies_is_the_crd_of_the_code(plane: ControlPlane, file: str) -> None:
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--output=json")
    applied = json.loads(plane.kubectl(*words, f"--filename={REPOSITORY / file}"))
    assert applied["spec"]["versions"][0]["schema"] == experiment_crd()["spec"]["versions"][0]["schema"]
