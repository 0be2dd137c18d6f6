"""containerd, with folders and a socket of its own: what it pulled or was given stays for the next run."""

import json
from contextlib import suppress
from pathlib import Path

from tests.node.images import Image, oci_layout
from tests.node.machine import BRIDGE, POD_NETWORK, RUN, CommandFailedError, call, unmount_below
from tests.tools.processes import Server, wait_until
from tests.tools.programs import cache_folder, program

SOCKET = RUN / "containerd.sock"
STATE = RUN / "containerd"
CTR = ("ctr", "--address", str(SOCKET), "--namespace", "k8s.io")

CONFIG = """
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
GVISOR = """
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]
    runtime_type = "io.containerd.runsc.v1"
"""


class Containerd:
    """`gvisor`: with the runtime handler `runsc` too."""

    def __init__(self, folder: Path, pause: Image, gvisor: bool = False) -> None:
        networks = folder / "networks"
        networks.mkdir()
        (networks / "10-bridge.conflist").write_text(json.dumps(_network()))
        self._pause = pause
        config = folder / "containerd.toml"
        root = cache_folder() / "node" / "containerd"
        text = CONFIG.format(root=root, state=STATE, socket=SOCKET, pause=pause.name, networks=networks)
        config.write_text(text + (GVISOR if gvisor else ""))
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        if gvisor:
            path = f"{program('runsc').parent}:{program('containerd-shim-runsc-v1').parent}:{path}"
        command = ["containerd", "--config", str(config), "--log-level", "warn"]
        self._server = Server(command, folder / "containerd.log", {"PATH": path})

    def start(self) -> None:
        """With nothing in it but images, whatever an ended run left behind."""
        unmount_below([STATE])
        self._server.start(self._answers)
        if self.sweep():
            self._server.stop()
            unmount_below([STATE])
            self._server.start(self._answers)
        self.load([self._pause])

    def stop(self) -> None:
        if self._server.running:
            self.sweep()
        self._server.stop()
        unmount_below([STATE])

    def load(self, images: list[Image]) -> None:
        """Give it images that it does not hold yet, and take away what it held under their repositories before."""
        held = self._digests()
        missing = [image for image in images if image.name not in held]
        if missing:
            with oci_layout(missing) as layout:
                call("sh", "-c", f"tar -C {layout} -c . | {' '.join(CTR)} images import -")
                self._forget_layers(layout)
        digests = self._digests()
        wanted = {_repository(image.name): digests[image.name] for image in images}
        for name, digest in held.items():
            if wanted.get(_repository(name), digest) != digest:
                self.ctr("images", "remove", name)

    def _forget_layers(self, layout: Path) -> None:
        """They are unpacked: what is left to keep is configurations and manifests."""
        blobs = (blob for blob in (layout / "blobs" / "sha256").iterdir() if blob.stat().st_size < 100_000)
        manifests = [json.loads(data) for blob in blobs if b'"layers"' in (data := blob.read_bytes())]
        for digest in {layer["digest"] for manifest in manifests for layer in manifest["layers"]}:
            self.ctr("content", "remove", digest)

    def reference(self, image: Image) -> str:
        """repository@digest of an image that it holds."""
        return f"{_repository(image.name)}@{self._digests()[image.name]}"

    def _digests(self) -> dict[str, str]:
        lines = self.ctr("images", "list").splitlines()[1:]
        return {name: digest for name, _, digest, *_ in map(str.split, lines)}

    def sweep(self) -> bool:
        """Kill and remove all containers. Whether there were any."""
        swept = bool(self._left())
        wait_until(self._remove, "all containers to be gone")
        return swept

    def _left(self) -> list[str]:
        return self.ctr("containers", "list", "--quiet").split()

    def _remove(self) -> bool:
        """Whether all are gone now: what is just ending by itself may have to be asked twice."""
        for container in self._left():
            with suppress(CommandFailedError):
                self.ctr("tasks", "delete", "--force", container)
            with suppress(CommandFailedError):
                self.ctr("containers", "delete", container)
        return not self._left()

    def ctr(self, *words: str) -> str:
        return call(*CTR, *words)

    def _answers(self) -> bool:
        with suppress(CommandFailedError):
            return "Server" in self.ctr("version")
        return False


def _repository(name: str) -> str:
    return name.partition("@")[0].partition(":")[0]


def _network() -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(RUN / "addresses"),
            "ranges": [[{"subnet": POD_NETWORK}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {
        "cniVersion": "1.0.0",
        "name": "potstill",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }
