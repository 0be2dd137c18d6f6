"""The message of the node's tests about a disk that is too small, before a build fills it."""

import shutil
from pathlib import Path

import pytest

from tests.node import images


def test_leftovers_of_builds_are_removed_and_fetched_packages_are_kept(tmp_path: Path) -> None:
    for name in (images.CACHE_PREFIX, "buildah12345"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "layer").write_bytes(b"1")
    (tmp_path / "324642382").write_bytes(b"1")
    images.remove_leftovers(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == [images.CACHE_PREFIX]
    assert (tmp_path / images.CACHE_PREFIX / "layer").exists()


def test_a_disk_that_is_too_small_for_images_is_reported(tmp_path: Path) -> None:
    whole = shutil.disk_usage(tmp_path).total >> 30
    with pytest.raises(images.NoRoomError, match=rf"\d GiB free; images for the node take {whole + 1} GiB"):
        images.check_room(tmp_path, whole + 1)
    images.check_room(tmp_path, 0)
