"""Reads the header of a safetensors file as strictly as the safetensors library. No torch.

Format: https://github.com/huggingface/safetensors#format: 8 bytes of header size (little-endian), the header as JSON
(dtype, shape and data offsets of each tensor by name, `__metadata__`), then the tensors' bytes without gaps.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.words import count_of

LARGEST_HEADER_BYTES = 100_000_000
"""The library's limit."""
LARGEST_SIZE = 2**63
MOST_DIMENSIONS = 64
LONGEST_NAME = 1_000
"""Characters of a tensor's name that messages quote."""

DTYPE_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


class BadSafetensors(ValueError):
    """The file is not safetensors, is truncated, or contradicts itself. The message names the file and the tensor."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file. `begin`, `end`: the position of its bytes, from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Returns the tensors of a file by name, in the order of their bytes.

    Checked: every size is shape times dtype, and the tensors fill the file from the end of the header to its last byte
    without gaps or overlaps. Raises BadSafetensors, OSError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise BadSafetensors(f"{path.name} is not a safetensors file: it has {count_of(size, 'byte')}")
        (header_bytes,) = struct.unpack("<Q", start)
        if 8 + header_bytes > size or header_bytes > LARGEST_HEADER_BYTES:
            raise BadSafetensors(
                f"{path.name} is not a safetensors file, or is cut short: it has {count_of(size, 'byte')}, and its "
                f"header alone would have {header_bytes}"
            )
        text = file.read(header_bytes)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadSafetensors(f"{path.name} is not a safetensors file: its header: {_short(error)}") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise BadSafetensors(f"{path.name} is not a safetensors file: its header is not a JSON object")
    data_begin = 8 + header_bytes
    entries = [
        (name, _entry(path.name, name, stated, data_begin)) for name, stated in header.items() if name != "__metadata__"
    ]
    entries.sort(key=lambda item: (item[1].begin, item[1].end))
    _check_contiguous(path.name, entries, data_begin, size)
    return dict(entries)


def _entry(file: str, name: str, stated: Any, data_begin: int) -> TensorEntry:
    if len(name) > LONGEST_NAME or not _is_text(name):
        raise BadSafetensors(f"{file}: the name of tensor {name!r:.100} is too long, or cannot be written as UTF-8")
    fields = stated if isinstance(stated, dict) else {}
    shape, offsets, dtype = _sizes(fields.get("shape")), _sizes(fields.get("data_offsets")), fields.get("dtype")
    if shape is None or offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadSafetensors(f"{file}: `{name}` has no shape and data_offsets that can be read")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise BadSafetensors(f"{file}: `{name}` is {dtype!r:.40}, which is not a dtype of safetensors")
    entry = TensorEntry(dtype, shape, data_begin + offsets[0], data_begin + offsets[1])
    if entry.elements * DTYPE_BITS[dtype] != 8 * (entry.end - entry.begin):
        raise BadSafetensors(
            f"{file}: `{name}` has {entry.end - entry.begin} bytes, which is not its shape {list(shape)} of {dtype}"
        )
    return entry


def _check_contiguous(file: str, entries: list[tuple[str, TensorEntry]], data_begin: int, size: int) -> None:
    end = data_begin
    for name, entry in entries:
        if entry.begin != end:
            what = "overlaps the tensor before it" if entry.begin < end else "leaves a gap before it"
            raise BadSafetensors(f"{file}: `{name}` {what}: it begins at byte {entry.begin}, not {end}")
        end = entry.end
    if end != size:
        raise BadSafetensors(f"{file} has {size} bytes where its header says {end}: it is cut short or damaged")


def _sizes(values: Any) -> tuple[int, ...] | None:
    """Returns None for anything but a short list of integers from 0 to 2**63."""
    if not isinstance(values, list) or len(values) > MOST_DIMENSIONS:
        return None
    return tuple(values) if all(type(value) is int and 0 <= value < LARGEST_SIZE for value in values) else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it names one thing twice")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _short(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
