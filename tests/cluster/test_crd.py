"""What the API server refuses by the CRD, what the controller refuses in a condition, and what may change when."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from controller.executors.kubernetes.api import connect
from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.harness import ApiRefusedError, ControlPlane
from tests.experiment.wrong_specs import MINIMAL, WRONG
from tests.kubernetes.tasks import profile
from tests.tools.processes import wait_until
from workloads.storage.base import open_store

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
STRICT = "?fieldValidation=Strict"
ONLY_AS_A_FILE = {"tab in YAML", "two documents", "a field twice"}
"""What is not an object at all."""
ONLY_IN_A_CLUSTER = {
    "unknown profile": (
        "  base:",
        "  profile: h100\n  base:",
        "spec.profile: there is no profile h100; profiles: default",
    ),
    "base that does not exist": ("./base", "./nothing", "nothing is not a directory"),
    "runs of one name": ("  evaluation:", "    - {name: first, data: sums}\n  evaluation:", "Duplicate value"),
    "nothing to do": (
        MINIMAL[MINIMAL.index("  data:") : MINIMAL.index("  evaluation:")],
        "",
        "there is nothing to evaluate",
    ),
    "too many benchmarks": ("[{name: math-500}]", str([{"name": f"b{n}"} for n in range(17)]), "at most 16 items"),
    "deletion policy": ("  base:", "  deletionPolicy: Keep\n  base:", 'supported values: "Retain", "Delete"'),
    "no alpha of one half": (
        "  evaluation:",
        "  gate: {candidate: first@last, alpha: 0.5, require: [{benchmark: math-500, maxDrop: 0.1}]}\n  evaluation:",
        "spec.gate.alpha",
    ),
}
BY_THE_SERVER = {
    "misspelt field": 'unknown field "spec.runs[0].sample"',
    "misspelt in other case": 'unknown field "spec.runs[0].sequence_tokens"',
    "unknown field at the top of spec": 'unknown field "spec.evaluations"',
    "misspelt choice": 'spec.runs[0].overlong: Unsupported value: "dropp": supported values: "truncate", "drop"',
    "wrong type": "spec.runs[0].samples: Invalid value",
    "negative": "spec.runs[0].samples in body should be greater than 0",
    "missing required": "spec.base: Required value",
    "benchmark twice": "spec.evaluation.benchmarks[1]: Duplicate value",
    "no budgets": "spec.evaluation.budgets in body should have at least 1 items",
    "short revision": "spec.base.revision in body should match",
    "hex that YAML takes for a number": "spec.data.sums.sha256 in body must be of type string",
    "a name Kubernetes refuses": "metadata.name",
    "another kind": "must be Experiment",
    "another version": 'Experiment in version "v2" cannot be handled',
    **{name: ONLY_IN_A_CLUSTER[name][2] for name in (
        "runs of one name", "nothing to do", "too many benchmarks", "deletion policy", "no alpha of one half",
    )},
}  # fmt: skip
"""Refused before it is stored; all others by the controller, with the words that `potstill validate` has."""
ROWS = {name: row for name, row in (WRONG | ONLY_IN_A_CLUSTER).items() if name not in ONLY_AS_A_FILE}


def wrong(name: str) -> dict[str, Any]:
    right, replacement, _ = ROWS[name]
    assert right in MINIMAL
    item: dict[str, Any] = yaml.safe_load(MINIMAL.replace(right, replacement, 1))
    if name != "a name Kubernetes refuses":
        item["metadata"]["name"] = f"wrong-{list(ROWS).index(name)}"
    return item


@pytest.fixture(scope="module")
def path(plane: ControlPlane, crd: None) -> str:
    return f"/apis/potstill.dev/v1alpha1/namespaces/{plane.namespace()}/experiments"


@pytest.fixture(scope="module")
def told(
    plane: ControlPlane, path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, Any]]]:
    """The Accepted conditions of what the server took, by row."""
    folder = tmp_path_factory.mktemp("refused")
    store = open_store((folder / "store").as_uri())
    stated = profile(directory=str(folder))
    controller = Controller(connect(plane.kubeconfig()), store, {"default": stated}, path.split("/")[5])
    controller.start()
    rows = [name for name in ROWS if name not in BY_THE_SERVER]
    for name in rows:
        plane.api.post(path + STRICT, wrong(name))

    def conditions() -> dict[str, dict[str, Any]]:
        items = {
            item["metadata"]["name"]: item.get("status", {}).get("conditions", []) for item in plane.api.items(path)
        }
        found = {name: {c["type"]: c for c in items[wrong(name)["metadata"]["name"]]} for name in rows}
        return found if all("Finished" in one for one in found.values()) else {}

    yield wait_until(conditions, "all are refused", 60)
    controller.stop()


def test_there_are_at_least_forty_ways_to_be_wrong() -> None:
    assert len(ROWS) >= 40


@pytest.mark.parametrize("name", BY_THE_SERVER)
def test_the_server_refuses(plane: ControlPlane, path: str, name: str) -> None:
    with pytest.raises(ApiRefusedError) as refused:
        plane.api.post(path + STRICT, wrong(name))
    assert BY_THE_SERVER[name] in str(refused.value)


@pytest.mark.parametrize("name", [name for name in ROWS if name not in BY_THE_SERVER])
def test_the_controller_refuses(told: dict[str, dict[str, Any]], name: str) -> None:
    accepted, finished = told[name]["Accepted"], told[name]["Finished"]
    assert (accepted["status"], finished["status"], finished["reason"]) == ("False", "True", "Failed")
    assert ROWS[name][2].split(": ", 1)[-1] in accepted["message"]
    assert accepted["observedGeneration"] == 1


LIVE = {
    "base": ({"base": {"model": "./other"}}, "base cannot change in a live experiment"),
    "training": ({"training": {"batchSize": 10}}, "training cannot change in a live experiment"),
    "epoch": ({"epoch": 1}, "epoch cannot change in a live experiment"),
    "profile": ({"profile": "h100"}, "profile cannot change in a live experiment"),
    "a run": ({"runs": [{"name": "first", "data": "sums", "samples": 50}]}, "this run is part of a live experiment"),
    "a run less": ({"runs": [{"name": "second", "data": "sums"}]}, "runs can be added but not removed"),
    "a data set": ({"data": {"sums": {"uri": "more.jsonl"}}}, "a data set in use cannot change"),
    "a data set less": ({"data": {"sums": None}}, "data sets can be added but not removed"),
    "sampling": ({"evaluation": {"sampling": {"temperature": 1}}}, "evaluation.sampling cannot change"),
    "budgets": ({"evaluation": {"budgets": [64, 128]}}, "evaluation.budgets cannot change"),
    "a benchmark": (
        {"evaluation": {"benchmarks": [{"name": "math-500", "limit": 5}]}},
        "a benchmark in use cannot change",
    ),
    "a benchmark less": (
        {"evaluation": {"benchmarks": [{"name": "mbpp-plus"}]}},
        "benchmarks can be added but not removed",
    ),
}
FIRST = yaml.safe_load(MINIMAL)["spec"]["runs"][0]
GATE = {"candidate": "first@last", "require": [{"benchmark": "math-500", "maxDrop": 0.1}]}
ALLOWED = {
    "a run": {"runs": [FIRST, {**FIRST, "name": "second", "seed": 7}]},
    "a candidate": {"candidates": [{"name": "theirs", "adapter": "s3://lab/theirs"}]},
    "a benchmark": {"evaluation": {"benchmarks": [{"name": "math-500"}, {"name": "mbpp-plus"}]}},
    "a data set": {"data": {"more": {"uri": "more.jsonl"}}},
    "a gate": {"gate": GATE},
    "limits": {"limits": {"attempts": 5, "gpuSeconds": 3600}},
    "suspend": {"suspend": True},
    "deletionPolicy": {"deletionPolicy": "Delete"},
}


@pytest.fixture(scope="module")
def live(plane: ControlPlane, crd: None) -> str:
    """An experiment that the API server holds, in a namespace that no controller looks at."""
    item = yaml.safe_load(MINIMAL)
    namespace = plane.namespace()
    plane.api.post(f"/apis/potstill.dev/v1alpha1/namespaces/{namespace}/experiments", item)
    return f"/apis/potstill.dev/v1alpha1/namespaces/{namespace}/experiments/small?dryRun=All&fieldValidation=Strict"


@pytest.mark.parametrize("name", LIVE)
def test_a_change_of_a_started_experiment_is_refused(plane: ControlPlane, live: str, name: str) -> None:
    spec, message = LIVE[name]
    with pytest.raises(ApiRefusedError) as refused:
        plane.api.patch(live, {"spec": spec}, kind="merge-patch")
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ALLOWED)
def test_a_live_experiment_may_get(plane: ControlPlane, live: str, name: str) -> None:
    assert plane.api.patch(live, {"spec": ALLOWED[name]}, kind="merge-patch")["metadata"]["name"] == "small"


def test_kubectl_explains_every_field_of_a_run(plane: ControlPlane, crd: None) -> None:
    text = plane.kubectl("explain", "pexp.spec.runs")
    assert "One training, or checkpoints of another trainer." in text
    assert "For tables and plots; default: the name." in text
    assert "What to train, how to evaluate every checkpoint" in plane.kubectl("explain", "pexp.spec")


def test_kubectl_get_shows_how_far_it_is(plane: ControlPlane, live: str) -> None:
    namespace = live.split("/")[5]
    status = {"phase": "Running", "training": "1/2", "checkpoints": "3/4", "evaluations": "5/6", "gate": "Pass"}
    path = live.partition("?")[0]
    plane.api.patch(f"{path}/status", {"status": status}, kind="merge-patch")
    header, line = plane.kubectl("get", "pexp", namespace=namespace).splitlines()
    assert header.split() == ["NAME", "PHASE", "TRAINING", "CHECKPOINTS", "EVALUATIONS", "GATE", "AGE"]
    assert line.split()[:6] == ["small", "Running", "1/2", "3/4", "5/6", "Pass"]
