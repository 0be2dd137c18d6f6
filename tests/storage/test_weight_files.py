"""A base whose weights cannot be loaded is refused with the reason, before anything loads it."""

import json
from pathlib import Path

import pytest

from workloads.models.weight_files import INDEX, SINGLE, BadWeightFiles, check_weight_files


def test_one_file_or_an_index_with_its_files_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": "a.safetensors"}}))
    check_weight_files(tmp_path)
    (tmp_path / INDEX).unlink()
    (tmp_path / SINGLE).touch()
    check_weight_files(tmp_path)


@pytest.mark.parametrize(
    ("files", "index", "said"),
    [
        ((), None, "it has no weights"),
        (("model-1.safetensors", "model-2.safetensors"), None, "it has model-1.safetensors, model-2.safetensors"),
        (("pytorch_model.bin",), None, "it has pytorch_model.bin"),
        (("a.safetensors",), '{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}', "b.safetensors"),
        ((), "[]", "is not an index"),
        ((), "{", "is not an index"),
        ((), '{"weight_map": 3}', "is not an index"),
        ((), '{"weight_map": {"x": 3}}', "is not an index"),
        ((), "[" * 100_000, "is not an index"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, files: tuple[str, ...], index: str | None, said: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    if index is not None:
        (tmp_path / INDEX).write_text(index)
    with pytest.raises(BadWeightFiles, match=said):
        check_weight_files(tmp_path)
