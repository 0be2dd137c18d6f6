"""A table of the device time of each kernel, from torch's profiler."""

from typing import Any

MOST = 60
"""Kernels in a table."""


def kernel_table(trace: Any, of: str) -> list[str]:
    """`trace`: a torch.profiler.profile that has ended. The first line is the sum, with `of`: what was done."""
    events = [event for event in trace.key_averages() if event.device_type.name == "CUDA"]
    events = sorted((e for e in events if e.self_device_time_total > 0), key=lambda e: -e.self_device_time_total)
    total = sum(event.self_device_time_total for event in events)
    count = sum(event.count for event in events)
    lines = [f"{total / 1e3:9.1f} ms in {count} kernels of {of}"]
    for event in events[:MOST]:
        ms = event.self_device_time_total / 1e3
        lines.append(f"{ms:9.2f} ms {ms * 1e5 / total:5.1f}% {event.count:6}x {event.key[:150]}")
    return lines
