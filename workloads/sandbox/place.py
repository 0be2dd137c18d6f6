"""Makes the isolated root where candidates run, with namespaces, as far as the machine allows. Returns the active
layers.

With namespaces: no network device, no other process is visible, a root with only the standard library and numpy (not
this package, so no golds), and a limited private folder. Without: Landlock limits what can be read. Without that
too, candidates can open no file (see `lock`).
"""

import os
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workloads.sandbox import linux

PRIVATE_BYTES = 64 << 20
"""Size of a candidate's private folder."""


@dataclass(frozen=True)
class SandboxRoot:
    """`readable`: paths that programs need. `packages`: a folder with numpy in it. `private`: limited, or None.

    `private` is a mount point: Landlock's rules for it go to its parent, because a rule does not apply across a mount.
    """

    layers: tuple[str, ...]
    readable: tuple[str, ...]
    packages: str
    private: str | None


def readable_paths(hidden: Path) -> list[str]:
    """Returns standard library and shared libraries, without anything under `hidden`; then numpy at any place."""
    roots = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))]
    roots += [Path(root) for root in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")]
    roots += [Path(sys.base_prefix) / "lib" / f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"]
    roots += [Path("/etc/ld.so.cache")]
    found: dict[str, None] = {}
    for root in roots:
        for path in _without(root, hidden):
            if not any(path.is_relative_to(known) for known in found):
                found[str(path)] = None
    return list(found)


def _without(root: Path, hidden: Path) -> list[Path]:
    if not root.exists() or root.is_relative_to(hidden):
        return []
    if root.is_symlink() or not hidden.is_relative_to(root):
        return [root]
    return [path for child in sorted(root.iterdir()) for path in _without(child, hidden)]


def make(base: Path, hidden: Path, numpy_folders: list[str], allow_namespaces: bool) -> SandboxRoot:
    """Returns in the process that serves: pid 1 of a new namespace if that is allowed, otherwise this one.

    `base` is an empty folder; `hidden` is the folder from which this package was imported.
    """
    readable = [*readable_paths(hidden), *numpy_folders]
    packages = base / "packages"
    packages.mkdir()
    for folder in numpy_folders:
        (packages / Path(folder).name).symlink_to(folder)
    if not allow_namespaces:
        return SandboxRoot((), tuple(readable), str(packages), None)
    layers = _unshare()
    if "mount namespace" not in layers:
        return SandboxRoot(tuple(layers), tuple(readable), str(packages), None)
    try:
        _build_root(base, readable)
    except OSError as e:
        sys.stderr.write(f"sandbox: no root of its own: {e}\n")
        with suppress(OSError):
            linux.unmount(str(base))
        return SandboxRoot(tuple(layers), tuple(readable), str(packages), None)
    return SandboxRoot((*layers, "own root", "bounded folder"), tuple(readable), "/packages", "/private/folder")


def _unshare() -> list[str]:
    uid, gid = os.getuid(), os.getgid()
    rest = linux.NEWNS | linux.NEWPID | linux.NEWNET | linux.NEWIPC | linux.NEWUTS
    names = ["mount namespace", "pid namespace", "network namespace", "ipc namespace"]
    try:
        linux.unshare(linux.NEWUSER | rest)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"65534 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"65534 {gid} 1")
        names.insert(0, "user namespace")
    except OSError:
        try:
            linux.unshare(rest)
        except OSError as e:
            sys.stderr.write(f"sandbox: no namespaces: {e}\n")
            return []
    server = os.fork()
    if server:
        _, status = os.waitpid(server, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    linux.die_with_parent()
    return names


def _build_root(base: Path, readable: list[str]) -> None:
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    links = {link.name: str(link.readlink()) for link in (base / "packages").iterdir()}
    linux.mount("tmpfs", str(base), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    for source in readable:
        path = Path(source)
        target = base / source.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(path.readlink())
            continue
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        linux.bind_read_only(source, str(target))
    for name in ("packages", "private/folder"):
        (base / name).mkdir(parents=True)
    for name, source in links.items():
        (base / "packages" / name).symlink_to(source)
    base.chmod(0o111)
    linux.pivot_root(str(base))
    linux.mount(
        "none", "/", None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
    )


@dataclass(frozen=True)
class PrivateFolder:
    """The folder in which a candidate may write."""

    path: str

    def renew(self) -> None:
        """Mounts an empty limited folder over the old one."""
        limits = f"size={PRIVATE_BYTES},mode=700,nr_inodes=4096"
        linux.mount("tmpfs", self.path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, limits)

    def drop(self) -> None:
        os.chdir("/")
        linux.unmount(self.path)
