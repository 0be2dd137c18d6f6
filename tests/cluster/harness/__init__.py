"""A real Kubernetes control plane for tests: no root, no container runtime, ready in seconds."""

from tests.cluster.harness.api import Api, ApiRefusedError
from tests.cluster.harness.control_plane import ControlPlane, control_plane
from tests.cluster.harness.proxy import ApiProxy, api_proxy

__all__ = ["Api", "ApiProxy", "ApiRefusedError", "ControlPlane", "api_proxy", "control_plane"]
