"""The message of the node's tests about a disk that is too small, before a build fills it."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.node import images

Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_too_small_for_images_is_reported_and_leftovers_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, free = "", 10 << 30
    monkeypatch.setattr(images, "FOLDER", tmp_path)
    monkeypatch.setattr(images, "_identity", lambda _: built)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    for name in (images.CACHE_PREFIX, "buildah12345"):
        (tmp_path / "tmp" / name).mkdir(parents=True)
        (tmp_path / "tmp" / name / "layer").write_bytes(b"1")
    (tmp_path / "tmp" / "324642382").write_bytes(b"1")
    with pytest.raises(images.NoRoomError, match="10 GiB free; images for the node take 25 GiB"):
        images.make_room()
    assert [left.name for left in (tmp_path / "tmp").iterdir()] == [images.CACHE_PREFIX]
    assert (tmp_path / "tmp" / images.CACHE_PREFIX / "layer").exists()
    built = "sha256:1"
    images.make_room()
    free = 3 << 30
    with pytest.raises(images.NoRoomError, match="take 4 GiB"):
        images.make_room()
