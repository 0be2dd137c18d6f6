import json
import tracemalloc
from typing import Any

from controller.executors.kubernetes.trim import MOST_VALUES, trimmed, trimmed_work

Json = dict[str, Any]
METADATA: Json = {"name": "one", "labels": {"potstill.dev/role": "train"}, "managedFields": [{"manager": "kubelet"}]}
CONTAINER: Json = {"name": "main", "image": "i", "resources": {"limits": {"cpu": "1"}}, "command": ["python"]}


def again(item: Json) -> Json:
    """Returns a copy that shares no string with `item`, like another answer of the API server."""
    parsed: Json = json.loads(json.dumps(item))
    return parsed


def test_managed_fields_go_and_the_object_itself_stays_as_it_was() -> None:
    item = {"kind": "Experiment", "metadata": METADATA, "spec": {"template": "own"}, "status": {"phase": "Running"}}
    before = again(item)
    kept = trimmed(item)
    assert item == before
    assert kept == {**before, "metadata": {"name": "one", "labels": {"potstill.dev/role": "train"}}}


def test_a_job_keeps_its_spec_without_the_pod_template() -> None:
    job = {"metadata": METADATA, "spec": {"parallelism": 1, "template": {"spec": {}}}, "status": {"active": 1}}
    kept = trimmed_work(job)
    assert kept["spec"] == {"parallelism": 1}
    assert kept["status"] == {"active": 1}


def test_a_pod_keeps_its_node_and_of_its_containers_name_image_and_resources() -> None:
    pod = {
        "metadata": METADATA,
        "spec": {"nodeName": "n", "volumes": [{}], "containers": [CONTAINER], "initContainers": None},
        "status": {"phase": "Pending"},
    }
    kept = trimmed_work(pod)
    container = {name: CONTAINER[name] for name in ("name", "image", "resources")}
    assert kept["spec"] == {"nodeName": "n", "containers": [container], "initContainers": []}
    assert trimmed_work({"metadata": METADATA})["metadata"]["name"] == "one"


def test_copies_of_two_answers_share_their_strings() -> None:
    first, second = (trimmed_work(again({"metadata": METADATA, "status": {"phase": "Failed"}})) for _ in range(2))
    names = [[*kept, *kept["metadata"], *kept["metadata"]["labels"], *kept["status"]] for kept in (first, second)]
    assert [id(name) for name in names[0]] == [id(name) for name in names[1]]
    values = [[kept["metadata"]["labels"]["potstill.dev/role"], kept["status"]["phase"]] for kept in (first, second)]
    assert [id(value) for value in values[0]] == [id(value) for value in values[1]]


def test_few_strings_are_remembered() -> None:
    tracemalloc.start()
    for number in range(10 * MOST_VALUES):
        trimmed({"metadata": {"resourceVersion": f"v{number}"}})
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 200 * MOST_VALUES
