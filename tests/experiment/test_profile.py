"""A profile file: its fields, and the messages about mistakes."""

from pathlib import Path

import pytest

from controller.experiment.errors import SpecError
from controller.experiment.profile import load_profile

DIGEST = "sha256:" + "0" * 64


def profile(folder: Path, image: str) -> Path:
    path = folder / "profile.yaml"
    path.write_text(f"engine: {{name: vllm, version: 0.32.0}}\ntrain: {{image: '{image}'}}\n")
    return path


@pytest.mark.parametrize(
    "image",
    [f"registry.test:5000/lab/train@{DIGEST}", f"train:1.2@{DIGEST}", "train:0.1.0", "registry.test:5000/train:x"],
)
def test_an_image_that_says_its_version_is_taken(tmp_path: Path, image: str) -> None:
    assert load_profile(profile(tmp_path, image)).train.image == image


@pytest.mark.parametrize(
    "image", ["train", "train:latest", "registry.test:5000/lab/train", "registry.test:5000/train:latest"]
)
def test_an_image_that_can_change_is_refused_by_name(tmp_path: Path, image: str) -> None:
    with pytest.raises(SpecError, match=r"profile\.yaml") as refused:
        load_profile(profile(tmp_path, image))
    assert f"{image} can be another image at the next pull" in str(refused.value)
    assert "train.image" in str(refused.value)


def test_a_field_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = profile(tmp_path, "train:1")
    path.write_text(path.read_text() + "gpuMemoryGib: 80\n")
    with pytest.raises(SpecError, match="gpuMemoryGib"):
        load_profile(path)


@pytest.mark.parametrize("size", ["500", "500Gi", "1.5Ti"])
def test_a_size_is_a_quantity_of_kubernetes(tmp_path: Path, size: str) -> None:
    path = profile(tmp_path, "train:1")
    path.write_text(path.read_text() + f"evaluate: {{sizeLimits: {{work: '{size}'}}}}\n")
    assert load_profile(path).evaluate.size_limits.work == size


@pytest.mark.parametrize("size", ["500 GB", "0", "-1Gi", "500GiB", "much"])
def test_another_size_is_refused_by_its_field(tmp_path: Path, size: str) -> None:
    path = profile(tmp_path, "train:1")
    path.write_text(path.read_text() + f"evaluate: {{sizeLimits: {{work: '{size}'}}}}\n")
    with pytest.raises(SpecError, match=r"evaluate\.sizeLimits\.work"):
        load_profile(path)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("gatherSeconds", "batchWindowSeconds", "batch_window_seconds"),
        ("lingerSeconds", "idleTimeoutSeconds", "idle_timeout_seconds"),
    ],
)
def test_an_old_name_is_read_with_a_warning_that_names_file_and_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, new: str, field: str
) -> None:
    path = profile(tmp_path, "train:1")
    stated = path.read_text()
    path.write_text(f"{stated}{new}: 30\n")
    assert getattr(load_profile(path), field) == 30
    assert caplog.messages == []
    path.write_text(f"{stated}{old}: 30\n")
    assert getattr(load_profile(path), field) == 30
    assert caplog.messages == [f"{path}: line 3: {old} is now {new}; the next version no longer reads the old name"]


def test_an_old_name_beside_the_new_one_is_refused(tmp_path: Path) -> None:
    path = profile(tmp_path, "train:1")
    path.write_text(path.read_text() + "lingerSeconds: 30\nidleTimeoutSeconds: 30\n")
    with pytest.raises(
        SpecError, match="lingerSeconds is the old name of idleTimeoutSeconds: state idleTimeoutSeconds"
    ):
        load_profile(path)


def test_both_names_of_a_field_are_refused_in_plain_words(tmp_path: Path) -> None:
    path = profile(tmp_path, "train:1")
    path.write_text(path.read_text() + "gatherSeconds: 5\nbatchWindowSeconds: 5\n")
    with pytest.raises(
        SpecError, match="the file: gatherSeconds is the old name of batchWindowSeconds: state "
    ) as said:
        load_profile(path)
    assert "value error" not in str(said.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe", "cannot be read"), (b"", "must have fields"), (b"- a", "must have fields")]
)
def test_a_file_that_is_not_a_profile_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=rf"profile\.yaml: 1 problem\n  the file: {said}"):
        load_profile(path)
