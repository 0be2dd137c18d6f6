"""containerd, with its own folders and socket. Images that it pulled or imported stay for the next run."""

import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from tests.node.machine import BRIDGE, POD_NETWORK, RUN, CommandFailedError, call, unmount_below
from tests.tools.processes import Server, wait_until
from tests.tools.programs import cache_folder, program

SOCKET = RUN / "containerd.sock"
STATE = RUN / "containerd"
RUNSC = RUN / "runsc"
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
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]
    runtime_type = "io.containerd.runsc.v1"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc.options]
      TypeUrl = "io.containerd.runsc.v1.options"
      ConfigPath = "{runsc}"
"""

RUNSC_CONFIG = """
root = "{root}"
[runsc_config]
  platform = "systrap"
"""


class Containerd:
    """`pause`: the reference of the image for pods' sandboxes."""

    def __init__(self, folder: Path, pause: str) -> None:
        networks = folder / "networks"
        networks.mkdir()
        (networks / "10-bridge.conflist").write_text(json.dumps(_network()))
        runsc = folder / "runsc.toml"
        runsc.write_text(RUNSC_CONFIG.format(root=RUNSC))
        config = folder / "containerd.toml"
        root = cache_folder() / "node" / "containerd"
        text = CONFIG.format(root=root, state=STATE, socket=SOCKET, pause=pause, networks=networks, runsc=runsc)
        config.write_text(text)
        command = ["containerd", "--config", str(config), "--log-level", "warn"]
        self._runtimes = folder / "runtimes"
        self._runtimes.mkdir()
        path = f"{self._runtimes}{os.pathsep}{os.environ['PATH']}"
        self._server = Server(command, folder / "containerd.log", {"PATH": path})

    def start(self) -> None:
        """Starts it with images only, whatever an ended run left behind."""
        unmount_below([STATE])
        self._server.start(self._answers)
        if self.sweep():
            self._server.stop()
            unmount_below([STATE])
            self._server.start(self._answers)

    def kill(self) -> None:
        """Kills it. Containers continue, under their shims."""
        self._server.stop(signal.SIGKILL)

    def start_again(self) -> None:
        """Starts it with the existing containers."""
        self._server.start(self._answers)

    def add_gvisor(self) -> None:
        """Adds the runtime handler `runsc`."""
        for name in ("runsc", "containerd-shim-runsc-v1"):
            (self._runtimes / name).symlink_to(program(name))

    def stop(self) -> None:
        if self._server.running:
            self.sweep()
        self._server.stop()
        unmount_below([STATE, RUNSC])
        shutil.rmtree(RUNSC, ignore_errors=True)

    def forget_others(self, references: list[str]) -> None:
        """Removes other images of the repositories of `references`."""
        wanted = dict(reference.split("@") for reference in references)
        names = [(name, digest) for name, _, digest, *_ in map(str.split, self.ctr("images", "list").splitlines()[1:])]
        kept = {
            digest for name, digest in names if wanted.get(name.partition("@")[0], digest) == digest and "@" in name
        }
        for name, digest in names:
            if digest not in kept:
                self.ctr("images", "remove", name)

    def sweep(self) -> bool:
        """Kills and removes all containers. Returns whether there were any."""
        swept = bool(self._left())
        wait_until(self._remove, "all containers to be gone")
        return swept

    def _left(self) -> list[str]:
        return self.ctr("containers", "list", "--quiet").split()

    def _remove(self) -> bool:
        """Returns whether all are removed: a container that just ends by itself may need a second call."""
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
