"""The control plane of the tests is a real one: its controllers act, its admission refuses, its data outlives it."""

import json
import time
from contextlib import suppress

import pytest
import urllib3

from tests.cluster.harness import Api, ApiProxy, ApiRefusedError, ControlPlane
from tests.cluster.harness.api import Object
from tests.cluster.harness.pods import disrupt_pod, end_pod, pods_of_job, run_pod
from tests.tools.processes import wait_until

pytestmark = pytest.mark.slow

SECURE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def make_job(api: Api, namespace: str, name: str = "work", **spec: object) -> Object:
    pod = {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "none.invalid/none:1", "securityContext": SECURE}],
    }
    body = {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": pod}, **spec}}
    return api.post(f"/apis/batch/v1/namespaces/{namespace}/jobs", body)


def the_pod(api: Api, namespace: str, name: str = "work") -> Object:
    return wait_until(lambda: pods_of_job(api, namespace, name), "a pod of the Job")[0]


def finished(api: Api, namespace: str, name: str = "work") -> str:
    """Waits for the Job's terminal condition and returns its type."""

    def terminal() -> list[str]:
        status = api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}").get("status", {})
        return [
            condition["type"]
            for condition in status.get("conditions", [])
            if condition["status"] == "True" and condition["type"] in {"Complete", "Failed"}
        ]

    return wait_until(terminal, "the Job's end")[0]


def test_a_job_gets_a_pod_that_waits_for_a_node(plane: ControlPlane, namespace: str) -> None:
    make_job(plane.api, namespace)
    pod = the_pod(plane.api, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
    seen = wait_until(lambda: plane.api.get(path)["status"].get("conditions"), "the scheduler's word on the pod")
    assert seen[0]["reason"] == "Unschedulable"


@pytest.mark.parametrize(("exit_code", "end"), [(0, "Complete"), (3, "Failed")])
def test_a_pods_end_that_the_test_reports_ends_its_job(
    plane: ControlPlane, namespace: str, exit_code: int, end: str
) -> None:
    make_job(plane.api, namespace)
    run_pod(plane.api, the_pod(plane.api, namespace))
    end_pod(plane.api, the_pod(plane.api, namespace), exit_code)
    assert finished(plane.api, namespace) == end


def test_a_disruption_is_not_counted_against_a_job_whose_policy_says_so(plane: ControlPlane, namespace: str) -> None:
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    make_job(plane.api, namespace, podFailurePolicy={"rules": [rule]}, podReplacementPolicy="Failed")
    disrupt_pod(plane.api, the_pod(plane.api, namespace))
    second = wait_until(lambda: pods_of_job(plane.api, namespace, "work")[1:], "a second pod")
    assert [pod["status"]["phase"] for pod in second] == ["Pending"]


def test_deleting_an_owner_deletes_what_it_owns(plane: ControlPlane, namespace: str) -> None:
    job = make_job(plane.api, namespace)
    pod = the_pod(plane.api, namespace)
    plane.api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/work")
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
    wait_until(lambda: not plane.api.exists(path), f"the pod of {job['metadata']['uid']} to go")


def test_restricted_namespaces_refuse_a_privileged_pod(plane: ControlPlane) -> None:
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    container: Object = {"name": "main", "image": "none.invalid/none:1", "securityContext": {"privileged": True}}
    pod: Object = {"metadata": {"name": "strong"}, "spec": {"containers": [container]}}
    with pytest.raises(ApiRefusedError, match='violates PodSecurity "restricted'):
        plane.api.post(f"/api/v1/namespaces/{namespace}/pods", pod)
    container["securityContext"] = SECURE
    plane.api.post(f"/api/v1/namespaces/{namespace}/pods", pod)


def test_a_user_may_do_what_a_role_lets_it_and_no_more(plane: ControlPlane, namespace: str) -> None:
    api, pods = plane.api_as("researcher"), f"/api/v1/namespaces/{namespace}/pods"
    with pytest.raises(ApiRefusedError, match="403"):
        api.items(pods)
    plane.kubectl("create", "rolebinding", "r", "--clusterrole=view", "--user=researcher", namespace=namespace)
    wait_until(lambda: may_list(api, pods), "the role to be bound")
    with pytest.raises(ApiRefusedError, match="403"):
        api.items("/api/v1/pods")


def may_list(api: Api, path: str) -> bool:
    with suppress(ApiRefusedError):
        api.items(path)
        return True
    return False


def test_a_service_accounts_token_is_believed(plane: ControlPlane, namespace: str) -> None:
    api = Api(plane.url, plane.service_account_token(namespace, "default"), plane.certificate_authority)
    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    told = api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert told["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"


def test_a_restart_keeps_data(plane: ControlPlane, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = plane.api.post(path, {"metadata": {"name": "kept"}, "data": {"a": "1"}})
    plane.stop_apiserver()
    with pytest.raises(urllib3.exceptions.HTTPError):
        plane.api.get(path)
    plane.start_apiserver()
    kept = plane.api.get(f"{path}/kept")
    assert (kept["data"], kept["metadata"]["uid"]) == ({"a": "1"}, made["metadata"]["uid"])
    make_job(plane.api, namespace)
    assert the_pod(plane.api, namespace), "the controllers found the new API server"


def through(plane: ControlPlane, proxy: ApiProxy) -> Api:
    return Api(proxy.url, plane.token("admin"), plane.certificate_authority)


def watch(plane: ControlPlane, proxy: ApiProxy, path: str, timeout_seconds: float = 20) -> urllib3.BaseHTTPResponse:
    headers = {"Authorization": f"Bearer {plane.token('admin')}"}
    url = f"{proxy.url}{path}?watch=true&resourceVersion=0"
    pool = urllib3.PoolManager(retries=False, timeout=timeout_seconds)
    return pool.request("GET", url, headers=headers, preload_content=False)


def test_the_proxy_passes_calls_and_watches_on(plane: ControlPlane, namespace: str, proxy: ApiProxy) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    events = watch(plane, proxy, path)
    assert json.loads(events.readline())["object"]["metadata"]["name"] == "kube-root-ca.crt"
    through(plane, proxy).post(path, {"metadata": {"name": "seen"}})
    assert json.loads(events.readline())["object"]["metadata"]["name"] == "seen"
    assert proxy.open_streams("watch=true")
    assert proxy.cut("watch=true") == 1
    with pytest.raises(urllib3.exceptions.HTTPError):
        events.readline()
    assert [request.line.split("?")[0] for request in proxy.requests] == [f"GET {path}", f"POST {path}"]


def test_the_proxy_answers_with_the_stated_errors(plane: ControlPlane, proxy: ApiProxy) -> None:
    api = through(plane, proxy)
    proxy.answer(503, pattern="GET /api/v1/namespaces", times=2)
    for _ in range(2):
        with pytest.raises(ApiRefusedError, match="503"):
            api.get("/api/v1/namespaces")
    assert api.items("/api/v1/namespaces")


def test_the_proxy_expires_a_watch(plane: ControlPlane, namespace: str, proxy: ApiProxy) -> None:
    events = watch(plane, proxy, f"/api/v1/namespaces/{namespace}/configmaps")
    events.readline()
    assert proxy.expire_watches() == 1
    assert json.loads(events.readline())["object"]["code"] == 410
    assert events.readline() == b""


def test_a_silent_proxy_neither_answers_nor_closes(plane: ControlPlane, namespace: str, proxy: ApiProxy) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    events = watch(plane, proxy, path, timeout_seconds=0.3)
    events.readline()
    proxy.silence()
    plane.api.post(path, {"metadata": {"name": "unseen"}})
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        events.readline()
    proxy.heal()
    assert through(plane, proxy).exists(f"{path}/unseen")


def test_a_refusing_proxy_is_an_error_until_it_is_healed(plane: ControlPlane, proxy: ApiProxy) -> None:
    api = through(plane, proxy)
    proxy.refuse()
    with pytest.raises(urllib3.exceptions.HTTPError):
        api.get("/version")
    proxy.heal()
    assert api.get("/version")["gitVersion"] == "v1.34.4"


def test_a_delay_is_waited_for(plane: ControlPlane, proxy: ApiProxy) -> None:
    proxy.delay(0.2)
    begun = time.monotonic()
    through(plane, proxy).get("/version")
    assert time.monotonic() - begun >= 0.2
