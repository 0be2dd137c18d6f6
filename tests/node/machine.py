"""The machine under the node: its packages, its cgroups, its network, and the clean-up."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
}
"""The programs that the node needs, and the Debian package of each."""

RUN = Path("/run/potstill-node")
"""Sockets and state that end with the machine. The path is short, because the length of socket paths is limited."""
BRIDGE = "potstill0"
NODE_ADDRESS = "10.244.0.1"
POD_NETWORK = "10.244.0.0/24"


class CommandFailedError(Exception):
    """A command that must succeed failed; the message holds its output."""


def call(*words: str | Path, stdin: str | None = None, environment: dict[str, str] | None = None) -> str:
    """Returns a command's output.

    Raises:
        CommandFailedError: it ended with an error.
    """
    command = [str(word) for word in words]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=os.environ | (environment or {}), check=False
    )
    if done.returncode != 0:
        raise CommandFailedError(
            f"{' '.join(command)} ended with {done.returncode}:\n{(done.stderr or done.stdout)[-6000:]}"
        )
    return done.stdout


def install_packages() -> None:
    """Installs the missing Debian packages. Needs root and apt."""
    missing = sorted({package for needed, package in PACKAGES.items() if not shutil.which(needed)})
    if missing:
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        call("apt-get", "update", "-qq")
        call("apt-get", "install", "-y", "-q", "--no-install-recommends", *missing, environment=quiet)


def make_bridge() -> None:
    """Creates the pods' network. It must exist before any pod, because the API server listens on its address."""
    call("ip", "link", "add", BRIDGE, "type", "bridge")
    call("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", BRIDGE)
    call("ip", "link", "set", BRIDGE, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def remove_bridge() -> None:
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        call("ip", "link", "delete", BRIDGE)


def unmount_below(folders: Sequence[Path]) -> None:
    """Unmounts the mounts of containers and volumes."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if any(Path(mount).is_relative_to(folder) for folder in folders):
            call("umount", "--lazy", mount)
