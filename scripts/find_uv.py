"""Prints the path of uv; fetches it from the package index first if it is not here. Standard library only.

A fresh Debian has Python but neither pip nor a full venv, so this reads the index itself: the wheel named below, for
this machine, checked against its SHA-256 as the index states it. PIP_INDEX_URL or UV_DEFAULT_INDEX chooses the index.
"""

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from io import BytesIO
from pathlib import Path

VERSION = "0.13.9"
INDEX = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"


def main() -> int:
    found = shutil.which("uv") or _cached()
    try:
        print(found or _fetch())
    except (OSError, LookupError) as error:
        print(f"uv {VERSION} is not here and could not be fetched from {INDEX}: {error}", file=sys.stderr)
        return 1
    return 0


def _place() -> Path:
    cache = Path(os.environ.get("POTSTILL_CACHE") or Path.home() / ".cache" / "potstill")
    return cache / f"uv-{VERSION}" / "uv"


def _cached() -> str | None:
    place = _place()
    if place.exists() and subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0:
        return str(place)
    return None


def _fetch() -> str:
    tag = {"x86_64": "manylinux_2_17_x86_64", "aarch64": "manylinux_2_17_aarch64", "arm64": "macosx_11_0_arm64"}
    print(f"fetching uv {VERSION}", file=sys.stderr)
    page = f"{INDEX.rstrip('/')}/uv/"
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    prefix, platform_tag = f"uv-{VERSION}-", tag[platform.machine()]
    file = next((f for f in files if f["filename"].startswith(prefix) and platform_tag in f["filename"]), None)
    if file is None:
        raise LookupError(f"no wheel of uv {VERSION} for {platform_tag}")
    with urllib.request.urlopen(urllib.parse.urljoin(page, file["url"]), timeout=300) as answer:
        wheel = answer.read()
    if hashlib.sha256(wheel).hexdigest() != file["hashes"]["sha256"]:
        raise LookupError(f"{file['filename']} arrived damaged")
    with zipfile.ZipFile(BytesIO(wheel)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/scripts/uv"))
        program = archive.read(name)
    place = _place()
    place.parent.mkdir(parents=True, exist_ok=True)
    whole = place.with_name(f"uv.{os.getpid()}")
    whole.write_bytes(program)
    whole.chmod(whole.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    whole.replace(place)
    return str(place)


if __name__ == "__main__":
    sys.exit(main())
