from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workloads.train.tensor_file import write_tensors


def some(dtype: torch.dtype) -> dict[str, Tensor]:
    """Names out of order, a view into a larger tensor, a scalar, an empty tensor."""
    flat = torch.randn(3000, dtype=dtype)
    return {"b.weight": flat[100:220].view(10, 12), "a": flat, "z": flat[7], "é": flat[:0].view(0, 5)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_the_bytes_are_those_of_the_library(
    dtype: torch.dtype, metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    tensors = some(dtype)
    write_tensors(tmp_path / "ours", tensors, metadata)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "theirs", metadata)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    for name, tensor in load_file(tmp_path / "ours").items():
        assert torch.equal(tensor, tensors[name])


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a": torch.zeros(4, 4).T[1:]}, "a: a torch.float32 tensor"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "a: a torch.int64 tensor"),
        ({"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.bfloat16)}, "b is torch.bfloat16, a torch.float32"),
    ],
)
def test_a_tensor_that_cannot_be_written_is_refused_by_name(
    tensors: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        write_tensors(tmp_path / "file", tensors)
    assert not (tmp_path / "file").exists()
