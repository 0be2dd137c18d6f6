"""Sums a profile of perf.train.throughput by kind of kernel: `python -m perf.train.where PROFILE.txt`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

KINDS = {
    "attention (cuDNN)": r"cudnn|pytorch_flash",
    "grouped products of the experts, frozen and LoRA": r"GroupProblemSh",
    "dense products: projections, their LoRA, router, head": r"nvjet|cublas|splitK",
    "rows spread to experts and summed back": r"_spread_kernel|_combine_kernel|_gather_kernel",
    "SwiGLU": r"_swiglu",
    "norms and rotation": r"_rms_norm|_norm_rope",
    "cross-entropy": r"_cross_entropy",
    "AdamW": r"multi_tensor_apply",
}
ROW = re.compile(r"\s*([\d.]+) ms\s+[\d.]+%\s+(\d+)x (.*)")


def main(path: Path) -> None:
    head, *lines = path.read_text().splitlines()
    total, micro_batches = float(head.split()[0]), int(re.findall(r"(\d+) micro-batches", head)[0])
    sums = dict.fromkeys(KINDS, 0.0)
    for line in lines:
        match = ROW.match(line)
        assert match, line
        if match[3].startswith("Optimizer.step"):
            total -= float(match[1])  # a range around kernels that are listed themselves
            continue
        for kind, pattern in KINDS.items():
            if re.search(pattern, match[3]):
                sums[kind] += float(match[1])
                break
    sums["the rest: casts, gradient sums, sorting, embedding"] = total - sum(sums.values())
    for kind, ms in sums.items():
        print(f"{ms / micro_batches:8.1f} ms {ms / total:6.1%}  {kind}")
    print(f"{total / micro_batches:8.1f} ms         one micro-batch of a step of {micro_batches}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
