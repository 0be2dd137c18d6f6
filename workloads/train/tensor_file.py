"""Writes a safetensors file while another thread trains: releases the interpreter's lock at every tensor.

safetensors' own `save_file` holds the lock for all the tensors, and an adapter on experts has tens of thousands: the
training thread could launch nothing in that time. The bytes equal those of `save_file`. Format:
https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}
ALIGNMENT_BYTES = 8
PIECE_BYTES = 1 << 26


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """`tensors`: on the host, contiguous, all of one dtype (float32 or bfloat16); written in the order of their names.

    Raises ValueError for any other tensor.
    """
    ordered = sorted(tensors.items())
    entries = [] if metadata is None else [f'"__metadata__":{_json(dict(metadata))}']
    offset = 0
    for name, tensor in ordered:
        if tensor.is_cuda or not tensor.is_contiguous() or tensor.dtype not in NAMES:
            raise ValueError(f"{name}: a {tensor.dtype} tensor on {tensor.device}, strides {tensor.stride()}")
        if tensor.dtype != ordered[0][1].dtype:
            raise ValueError(f"{name} is {tensor.dtype}, {ordered[0][0]} {ordered[0][1].dtype}")
        end = offset + tensor.nbytes
        shape = ",".join(map(str, tensor.shape))
        entries.append(
            f'{_json(name)}:{{"dtype":"{NAMES[tensor.dtype]}","shape":[{shape}],"data_offsets":[{offset},{end}]}}'
        )
        offset = end
    text = f"{{{','.join(entries)}}}".encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    with path.open("wb", buffering=0) as file:
        file.write(len(text).to_bytes(8, "little"))
        _write(file, memoryview(text))
        for _, tensor in ordered:
            _write(file, tensor.detach().flatten().view(torch.uint8).numpy().data)


def _write(file: FileIO, data: memoryview) -> None:
    """Writes all of it: one call writes at most 2 GiB, and may write less."""
    while data:
        data = data[file.write(data[:PIECE_BYTES]) :]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
