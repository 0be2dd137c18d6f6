"""Whether the numbers of a safetensors file are numbers. Reads the file in blocks; no torch.

Source: the safetensors format: 8 bytes of header size (little-endian), a JSON header with each tensor's dtype and
offsets, the data. A float is infinite or NaN when all its exponent bits are set.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

EXPONENT: dict[str, tuple[np.dtype[Any], int]] = {
    "F64": (np.dtype("<u8"), 0x7FF0_0000_0000_0000),
    "F32": (np.dtype("<u4"), 0x7F80_0000),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
}
BLOCK_NUMBERS = 1 << 20


def read_header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """(tensors by name, where the data begins). Raises ValueError for what is cut short or no safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + header_bytes > size:
            raise ValueError(f"{path.name} is no safetensors file, or is cut short: it has {size} bytes")
        try:
            header = json.loads(file.read(header_bytes))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            offsets = sorted(tuple(map(int, entry["data_offsets"])) for entry in tensors.values())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path.name} has no header that can be read: {error!r}") from error
    stated = 8 + header_bytes + max((end for _, end in offsets), default=0)
    if stated != size or any(not 0 <= begin <= end for begin, end in offsets):
        raise ValueError(f"{path.name} has {size} bytes where its header says {stated}: it is cut short or damaged")
    return tensors, 8 + header_bytes


def not_finite(path: Path) -> list[str]:
    """Names of the tensors that hold an infinity or a NaN. Raises ValueError as `read_header` does."""
    tensors, data_begin = read_header(path)
    found = []
    with path.open("rb") as file:
        for name, entry in sorted(tensors.items()):
            if entry.get("dtype") not in EXPONENT:
                continue
            dtype, exponent = EXPONENT[entry["dtype"]]
            begin, end = entry["data_offsets"]
            file.seek(data_begin + begin)
            remaining = (end - begin) // dtype.itemsize
            while remaining > 0 and (block := file.read(min(remaining, BLOCK_NUMBERS) * dtype.itemsize)):
                bits = np.frombuffer(block, dtype)
                if bool(((bits & exponent) == exponent).any()):
                    found.append(name)
                    break
                remaining -= len(bits)
    return found
