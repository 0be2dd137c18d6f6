"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes of the user who runs the tests.

They are one program (tests/tools/go/kubernetes). All they write is in one folder: logs, certificates, etcd's data.
Users are tokens of a file, with RBAC on; the API server's own key also signs the service accounts' tokens.
"""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import urllib3

from tests.cluster.harness.api import Api, ApiRefusedError, Object
from tests.tools.processes import Server, free_port, wait_until
from tests.tools.programs import program

USERS = {
    "admin": ("system:masters",),
    "system:kube-controller-manager": (),
    "system:kube-scheduler": (),
    "system:kube-proxy": (),
    "researcher": (),
}
"""Who has a token from the start, and their groups. `researcher` may do nothing until a test binds a role."""


SOON_LOST = ["--node-monitor-grace-period=25s", "--node-monitor-period=2s"]
"""A node whose kubelet says nothing for so long is lost; 50 s in use."""
SOON_EVICTED = ["--default-not-ready-toleration-seconds=3", "--default-unreachable-toleration-seconds=3"]
"""How long pods stay on a lost node; 300 s in use."""


class ControlPlane:
    """`address`: the address at which the API server listens. `advertised`: its address for pods; None without pods.

    `node`: the name of a kubelet, which gets a token as `system:node:<name>`. `audit`: rules of an audit policy; each
    selected request is a line in `audit_log`.
    """

    def __init__(
        self,
        folder: Path,
        address: str = "127.0.0.1",
        advertised: str | None = None,
        node: str = "",
        audit: list[Object] | None = None,
    ) -> None:
        self.folder = folder
        self.keep_folder = False
        self.address = address
        self.port = free_port(address)
        self.url = f"https://{address}:{self.port}"
        users = USERS | ({f"system:node:{node}": ("system:nodes",)} if node else {})
        self._tokens = {user: secrets.token_hex(16) for user in users}
        self._write_token_file(users)
        self._kubernetes = program("kubernetes")
        self.etcd = self._server("etcd", *self._etcd_flags())
        self.apiserver = self._server("kube-apiserver", *self._apiserver_flags(advertised))
        if audit is not None:
            self._log_requests(audit)
        if node:
            self.apiserver.command += SOON_EVICTED
        self.controller_manager = self._server("kube-controller-manager", *self._controller_manager_flags())
        if node:
            self.controller_manager.command += SOON_LOST
        self.scheduler = self._server("kube-scheduler", *self._scheduler_flags())

    def start(self) -> None:
        self.start_etcd()
        self.start_apiserver()
        self.controller_manager.start(lambda: True)
        self.scheduler.start(lambda: True)
        wait_until(lambda: self.api.exists("/api/v1/namespaces/default/serviceaccounts/default"), "service accounts")

    def stop(self) -> None:
        for server in (self.scheduler, self.controller_manager, self.apiserver, self.etcd):
            server.stop(deadline_seconds=5)

    def start_etcd(self) -> None:
        self.etcd.start(lambda: "ready to serve client requests" in self.etcd.log_tail())

    def start_apiserver(self) -> None:
        """On the same port, with the same certificate and data, however often it is stopped."""
        self.apiserver.start(self._ready, deadline_seconds=60)

    def stop_apiserver(self) -> None:
        """Like an API server that dies: connections are closed and refused."""
        self.apiserver.stop(deadline_seconds=0.1)

    def wait_ready(self) -> None:
        wait_until(self._ready, "the API server to be ready", 60)

    @cached_property
    def api(self) -> Api:
        return self.api_as("admin")

    def api_as(self, user: str) -> Api:
        return Api(self.url, self.token(user), self.certificate_authority)

    def token(self, user: str) -> str:
        return self._tokens[user]

    @property
    def certificate_authority(self) -> Path:
        return self.folder / "certificates" / "apiserver.crt"

    def kubeconfig(self, user: str = "admin", url: str | None = None, token: str | None = None) -> Path:
        """A kubeconfig file for a user, or for a token; `url` leads through a proxy."""
        target: dict[str, Any] = {"server": url or self.url}
        if target["server"].startswith("https:"):
            target["certificate-authority"] = str(self.certificate_authority)
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": target}],
            "users": [{"name": user, "user": {"token": token or self.token(user)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": "default"}}],
            "current-context": "test",
        }
        path = self.folder / f"kubeconfig-{user.replace(':', '-')}-{secrets.token_hex(4)}"
        path.write_text(json.dumps(content))
        return path

    @cached_property
    def _admin_kubeconfig(self) -> Path:
        return self.kubeconfig()

    def kubectl(self, *words: str, stdin: str | None = None, namespace: str | None = None) -> str:
        """Returns what kubectl prints as admin. Raises AssertionError with its output if it fails."""
        where = ["--namespace", namespace] if namespace else []
        command = [str(self._kubernetes), "kubectl", f"--kubeconfig={self._admin_kubeconfig}", *where, *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def namespace(self, prefix: str = "test", labels: dict[str, str] | None = None) -> str:
        """A new namespace that takes pods: its default service account is there."""
        metadata: Object = {"name": f"{prefix}-{secrets.token_hex(4)}", "labels": labels or {}}
        name = str(self.api.post("/api/v1/namespaces", {"metadata": metadata})["metadata"]["name"])
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_until(lambda: self.api.exists(account), f"the default service account of {name}")
        return name

    def service_account_token(self, namespace: str, name: str) -> str:
        """A token as a pod of that service account would hold."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        made = self.api.post(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        return str(made["status"]["token"])

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def _log_requests(self, rules: list[Object]) -> None:
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        path = self.folder / "audit.json"
        path.write_text(json.dumps(policy))
        self.apiserver.command += [f"--audit-policy-file={path}", f"--audit-log-path={self.audit_log}"]

    def _ready(self) -> bool:
        if not self.certificate_authority.exists():
            return False
        with suppress(ApiRefusedError, urllib3.exceptions.HTTPError):
            return self.api.text("/readyz") == "ok"
        return False

    def _write_token_file(self, users: dict[str, tuple[str, ...]]) -> None:
        lines = [f'{self._tokens[user]},{user},{user},"{",".join(groups)}"\n' for user, groups in users.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))

    def _server(self, part: str, *flags: str) -> Server:
        return Server([str(self._kubernetes), part, *flags], self.folder / f"{part}.log")

    def _etcd_flags(self) -> list[str]:
        nowhere = "http://127.0.0.1:1"  # the one member calls no other; etcd only wants the form of an address
        return [
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls=unix://{self.folder}/etcd.sock",
            f"--advertise-client-urls={nowhere}",
            f"--listen-peer-urls=unix://{self.folder}/peer.sock",
            f"--initial-advertise-peer-urls={nowhere}",
            f"--initial-cluster=default={nowhere}",
            "--unsafe-no-fsync",
        ]

    def _apiserver_flags(self, advertised: str | None) -> list[str]:
        certificates = self.folder / "certificates"
        reachable = ["--endpoint-reconciler-type=none"]
        if advertised:
            reachable = [f"--advertise-address={advertised}", "--kubelet-preferred-address-types=InternalIP"]
        return [
            f"--etcd-servers=unix://{self.folder}/etcd.sock",
            f"--bind-address={self.address}",
            f"--secure-port={self.port}",
            f"--cert-dir={certificates}",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--anonymous-auth=false",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={certificates}/apiserver.key",
            f"--service-account-signing-key-file={certificates}/apiserver.key",
            "--allow-privileged",
            "--profiling=false",
            *reachable,
        ]

    def _controller_manager_flags(self) -> list[str]:
        certificates = self.folder / "certificates"
        return [
            f"--kubeconfig={self.kubeconfig('system:kube-controller-manager')}",
            f"--service-account-private-key-file={certificates}/apiserver.key",
            f"--root-ca-file={certificates}/apiserver.crt",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]

    def _scheduler_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('system:kube-scheduler')}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]


@contextmanager
def control_plane(
    address: str = "127.0.0.1", advertised: str | None = None, node: str = "", audit: list[Object] | None = None
) -> Iterator[ControlPlane]:
    """A running control plane. Its folder goes with it, but stays where the block ends with an error
    or `keep_folder` was set."""
    folder = Path(tempfile.mkdtemp(prefix="potstill-cluster-"))
    plane = ControlPlane(folder, address, advertised, node, audit)
    try:
        plane.start()
        yield plane
    except BaseException:
        plane.keep_folder = True
        raise
    finally:
        plane.stop()
        if plane.keep_folder:
            print(f"the control plane's logs are kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
