"""Checks that the numbers of a safetensors file are finite. Reads the file in blocks; no torch.

A float is infinite or NaN when all its exponent bits are set.
"""

from pathlib import Path
from typing import Any

import numpy as np

from workloads.models.safetensors_file import read_header

EXPONENT: dict[str, tuple[np.dtype[Any], int]] = {
    "F64": (np.dtype("<u8"), 0x7FF0_0000_0000_0000),
    "F32": (np.dtype("<u4"), 0x7F80_0000),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
}
BLOCK_NUMBERS = 1 << 20


def not_finite(path: Path) -> list[str]:
    """Returns sorted names of the tensors with an infinity or a NaN. Raises BadSafetensors, OSError."""
    tensors = read_header(path)
    found = []
    with path.open("rb") as file:
        for name, entry in sorted(tensors.items()):
            if entry.dtype not in EXPONENT:
                continue
            dtype, exponent = EXPONENT[entry.dtype]
            file.seek(entry.begin)
            remaining = entry.elements
            while remaining > 0 and (block := file.read(min(remaining, BLOCK_NUMBERS) * dtype.itemsize)):
                bits = np.frombuffer(block, dtype)
                if bool(((bits & exponent) == exponent).any()):
                    found.append(name)
                    break
                remaining -= len(bits)
    return found
