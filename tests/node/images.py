"""Images for the node, built without Docker: a Debian base made by debootstrap, the rest from images/*.Dockerfile by buildah.

They reach the node through a registry. All files are outside the tree: buildah and the registry keep layers, and
unchanged images are neither built nor copied again.
"""

import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.node.machine import RUN, call, unmount_below
from tests.tools.programs import cache_folder, program

REPOSITORY = Path(__file__).parents[2]
REGISTRY = "127.0.0.1:5317"
FOLDER = cache_folder() / "node"
STORAGE = ("--root", str(FOLDER / "buildah"), "--runroot", str(RUN / "buildah"), "--storage-driver", "overlay")
BUILDAH = ("nice", "-n", "10", "buildah", *STORAGE)
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
CACHE_PREFIX = "buildah-cache"
"""The folder under FOLDER/tmp for packages that builds fetched."""
FIRST_GIB, LATER_GIB = 25, 4
"""Disk space: to build all images and run them (24 were left), and to do it again."""


class NoRoomError(Exception):
    """The disk is too small for the images; the message states the place and the bytes."""


@dataclass(frozen=True)
class Image:
    name: str
    """localhost/potstill-train:<hash>. The tag changes with the content."""
    identity: str
    """Buildah's id of the image."""


def machine_release() -> tuple[str, str]:
    """Returns the suite and the mirror of this Debian: bookworm, http://deb.debian.org/debian."""
    suite = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    assert suite, "/etc/os-release names no Debian suite"
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    sources = "\n".join(place.read_text() for place in places if place.is_file())
    mirror = re.search(r"^(?:URIs: *|deb (?:\[[^]]*\] )?)(https?://\S+/debian)/?(?:\s|$)", sources, re.MULTILINE)
    assert mirror, "no Debian mirror in apt's sources"
    return suite[1], mirror[1]


def make_room() -> None:
    """Removes the remains of interrupted builds.

    Raises:
        NoRoomError: images would fill the disk, and everything on it would fail in its own way.
    """
    unmount_below([FOLDER / "buildah", FOLDER / "tmp"])
    remove_leftovers(_folder("tmp"))
    check_room(FOLDER, LATER_GIB if _identity("localhost/potstill-train:newest") else FIRST_GIB)


def remove_leftovers(folder: Path) -> None:
    """Empties the folder, except for packages that builds fetched."""
    for left in folder.iterdir():
        if not left.name.startswith(CACHE_PREFIX):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def check_room(folder: Path, needed_gib: int) -> None:
    """Raises NoRoomError if the folder's disk has less space."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < needed_gib:
        raise NoRoomError(
            f"{folder} has {free:.0f} GiB free; images for the node take {needed_gib} GiB there. "
            "Make room, or name another folder in POTSTILL_CACHE"
        )


def build_base() -> Image:
    """Builds the smallest Debian with Python; the Dockerfiles' BASE."""
    suite, mirror = machine_release()
    name = f"localhost/potstill-base:{_short_hash(suite, BASE_PACKAGES)}"
    if not (identity := _identity(name)):
        with tempfile.TemporaryDirectory(dir=_folder("tmp")) as folder:
            root = Path(folder) / "root"
            call("debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", suite, root, mirror)
            for heavy in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
                shutil.rmtree(root / heavy)
            container = buildah("from", "scratch").strip()
            buildah("add", "--quiet", container, str(root), "/")
            buildah("commit", "--quiet", "--rm", container, name)
        identity = _identity(name)
    return Image(name, identity)


def build(name: str, base: Image, **arguments: str) -> Image:
    """Builds images/<name>.Dockerfile with images/build.sh and build arguments. Its tag changes with its content."""
    flags = ["--layers", "--pull-never", "--quiet", "--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]
    flags += [f"--build-arg={key}={value}" for key, value in arguments.items()]
    repository = f"localhost/potstill-{name}"
    before = _identity(f"{repository}:newest")
    words = {"TOOL": " ".join(BUILDAH), "FLAGS": " ".join(flags), "BASE": base.name, "IMAGES": name}
    call(REPOSITORY / "images" / "build.sh", "localhost", "newest", environment=_environment() | words)
    identity = _identity(f"{repository}:newest")
    image = Image(f"{repository}:{identity.removeprefix('sha256:')[:12]}", identity)
    buildah("tag", identity, image.name)
    if identity != before:
        for other in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
            if other.startswith(f"{repository}:") and other not in {image.name, f"{repository}:newest"}:
                buildah("rmi", other)
        buildah("rm", "--all")  # what a build that was interrupted left
        buildah("rmi", "--prune")
    return image


def with_folder(image: Image, folder: Path, place: str) -> Image:
    """Adds a folder of the repository to the image, at `place`."""
    content = sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    sums = [f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in content]
    name = f"{image.name.partition(':')[0]}-{folder.name}:{_short_hash(image.identity, place, *sums)}"
    if not (identity := _identity(name)):
        container = buildah("from", "--pull-never", image.name).strip()
        buildah("add", "--quiet", container, str(folder), place)
        buildah("commit", "--quiet", "--rm", container, name)
        identity = _identity(name)
    return Image(name, identity)


def build_from_program(name: str, path: Path, *arguments: str) -> Image:
    """Builds an image that consists of one static program."""
    tag = f"localhost/potstill-{name}:{_short_hash(str(path), *arguments)}"
    if not (identity := _identity(tag)):
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", "--chmod", "0755", container, str(path), f"/{path.name}")
        entrypoint = json.dumps([f"/{path.name}", *arguments])
        buildah("config", "--entrypoint", entrypoint, "--user", "65532:65532", container)
        buildah("commit", "--quiet", "--rm", container, tag)
        identity = _identity(tag)
    return Image(tag, identity)


def pause_image() -> Image:
    return build_from_program("pause", program("pause"))


def push(image: Image) -> str:
    """Pushes the layers that the node's registry lacks. Returns the image's reference there, by digest.

    Layers are uncompressed: on one machine, compression takes longer than the transfer.
    """
    target = f"{REGISTRY}/{image.name.removeprefix('localhost/')}"
    digest = _folder("tmp") / "digest"
    words = ("--quiet", "--tls-verify=false", "--disable-compression", f"--digestfile={digest}")
    buildah("push", *words, image.name, f"docker://{target}")
    return f"{target.rpartition(':')[0]}@{digest.read_text()}"


def buildah(*words: str) -> str:
    """buildah with its own storage under the cache."""
    return call(*BUILDAH, *words, environment=_environment())


def _environment() -> dict[str, str]:
    return {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(_folder("tmp"))}


def _identity(name: str) -> str:
    """Returns buildah's id of the image of that name; empty if there is no such image."""
    return buildah("images", "--quiet", "--no-trunc", "--filter", f"reference={name}").strip()


def _short_hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _folder(name: str) -> Path:
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
