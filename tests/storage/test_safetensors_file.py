"""The header reader accepts what the safetensors library accepts, and refuses everything else in one way."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.torch import save_file

from workloads.models.safetensors_file import BadSafetensors, read_header


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: Any, offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_names_shapes_and_places_are_those_of_the_library(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3),
        "a": torch.ones(4, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 5),
        "scalar": torch.tensor(7, dtype=torch.int64),
    }
    path = tmp_path / "file.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    found = read_header(path)
    assert {name: one.shape for name, one in found.items()} == {name: tuple(t.shape) for name, t in tensors.items()}
    data = path.read_bytes()
    for name, one in found.items():
        raw = tensors[name].flatten().view(torch.uint8).numpy().tobytes() if tensors[name].numel() else b""
        assert data[one.begin : one.end] == raw
    assert [one.begin for one in found.values()] == sorted(one.begin for one in found.values())


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it has 0 bytes"),
    "no header": (b"\0\0\0\0", "it has 4 bytes"),
    "a header longer than the file": (struct.pack("<Q", 1 << 60) + b"{}", "is cut short"),
    "no JSON": (file_of(b"{" * 16), "its header"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "its header"),
    "no object": (file_of([]), "is not a JSON object"),
    "deep": (file_of(b"[" * 200_000), "nested too deeply"),
    "NaN": (file_of(b'{"a": NaN}'), "NaN is not JSON"),
    "a name twice": (
        file_of(b'{"a":%b,"a":%b}' % ((json.dumps(entry([1], [0, 4])).encode(),) * 2), b"\0" * 4),
        "names one thing twice",
    ),
    "no offsets": (file_of({"a": entry([1], [])}), "data_offsets"),
    "offsets in text": (file_of({"a": entry([1], ["0", "4"])}, b"\0" * 4), "data_offsets"),
    "offsets of an unbounded number": (file_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}'), "data_offsets"),
    "an offset of 400 digits": (file_of({"a": entry([1], [0, 10**400])}), "data_offsets"),
    "an offset of 5,000 digits": (file_of(b'{"a":{"shape":[1],"data_offsets":[0,%b]}}' % (b"9" * 5000)), "its header"),
    "offsets the wrong way round": (file_of({"a": entry([1], [4, 0])}, b"\0" * 4), "data_offsets"),
    "a shape below zero": (file_of({"a": entry([-1], [0, 4])}, b"\0" * 4), "shape"),
    "a shape that is true": (file_of({"a": entry([True], [0, 4])}, b"\0" * 4), "shape"),
    "a shape of 64 huge sizes": (file_of({"a": entry([2**62] * 64, [0, 4])}, b"\0" * 4), "which is not its shape"),
    "a list for a dtype": (file_of({"a": entry([1], [0, 4], ["F32"])}, b"\0" * 4), "not a dtype"),
    "an unknown dtype": (file_of({"a": entry([1], [0, 4], "F33")}, b"\0" * 4), "not a dtype"),
    "no bytes for a shape": (file_of({"a": entry([2, 8], [0, 0])}), "has 0 bytes, which is not its shape"),
    "too many bytes for a shape": (file_of({"a": entry([1], [0, 8])}, b"\0" * 8), "has 8 bytes"),
    "overlap": (file_of({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, b"\0" * 12), "overlaps"),
    "twice the same bytes": (file_of({"a": entry([2], [0, 8]), "b": entry([2], [0, 8])}, b"\0" * 8), "overlaps"),
    "a gap": (file_of({"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, b"\0" * 12), "leaves a gap"),
    "a gap at the start": (file_of({"a": entry([1], [4, 8])}, b"\0" * 8), "leaves a gap"),
    "bytes left over": (file_of({"a": entry([1], [0, 4])}, b"\0" * 5), "cut short or damaged"),
    "cut short": (file_of({"a": entry([1], [0, 4])}, b"\0" * 3), "cut short or damaged"),
    "a surrogate for a name": (file_of(b'{"\\ud800": %b}' % json.dumps(entry([1], [0, 4])).encode(), b"\0" * 4), "UTF-8"),
    "a tensor that is a number": (file_of({"a": 5}), "data_offsets"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_with_a_false_header_is_refused_like_by_the_library(tmp_path: Path, what: str) -> None:
    data, words = HOSTILE[what]
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadSafetensors, match=words) as caught:
        read_header(path)
    assert str(caught.value).startswith("adapter_model.safetensors")
    assert len(str(caught.value)) < 2_000
    str(caught.value).encode()
    if what != "a name twice":  # the library takes the last one
        with pytest.raises(SafetensorError):
            deserialize(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**65) | st.floats() | st.text(max_size=3) | st.sampled_from(["F32", "F4"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
sizes = st.lists(st.integers(0, 3), max_size=3) | values
entries = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "F16", "U8", "F4"]) | values, "shape": sizes, "data_offsets": sizes}
)


@given(st.dictionaries(st.text(max_size=2), entries | values, max_size=3), st.binary(max_size=12))
def test_the_library_accepts_every_file_that_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(file_of(header, data))
    try:
        read_header(path)
    except BadSafetensors:
        return
    deserialize(path.read_bytes())
