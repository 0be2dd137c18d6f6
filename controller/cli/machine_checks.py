"""Checks of this machine for `potstill doctor`: Python, packages, GPUs, memory, sandbox."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pynvml
from rich.filesize import decimal

from controller.cli.checks import Check, advice, blocks, good
from controller.executors.local.machine import Gpu, visible_gpus
from workloads.engines.memory import available_host_bytes, weight_bytes
from workloads.engines.vllm.definition import VLLM
from workloads.sandbox.pool import Unsupported, sandbox_layers
from workloads.words import count_of

IMPORT_SECONDS = 240.0
"""The import of vLLM takes half a minute with a cold disk cache."""
LOCAL_INSTALL = "uv tool install '.[local]' in the checkout"
GPU_INSTALL = "uv tool install '.[local,train-gpu,evaluate]' in the checkout"
LOCAL_PACKAGES = {"train": ("transformers", "peft", "accelerate", "safetensors"), "grade": ("math_verify", "numpy")}
"""The modules of the extra `local`, besides torch."""
LARGEST_USED_SHARE = 0.05
"""The driver alone uses less of a GPU's memory."""
SMALL_MEMORY_BYTES = 4 * 10**9
"""The quickstart with its parallel programs needs less than this; any larger base needs more."""
TORCH_REPORT = (
    "import json, torch; print(json.dumps({'version': torch.__version__, 'cuda': torch.version.cuda, "
    "'works': torch.cuda.is_available()}))"
)


def check_python() -> Check:
    return good("Python", f"{platform.python_version()} ({sys.executable})")


def check_packages() -> Iterator[Check]:
    for extra, modules in LOCAL_PACKAGES.items():
        missing = [name for name in modules if find_spec(name) is None]
        if missing:
            yield blocks(f"extra {extra}", f"not installed: {', '.join(missing)}", LOCAL_INSTALL)
        else:
            yield good(f"extra {extra}", ", ".join(f"{name} {_version(name)}" for name in modules))


def check_gpus() -> Iterator[Check]:
    """Yields a line for the driver and a line for each GPU that CUDA may use."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield good("GPU", f"no NVIDIA driver answers ({error}): everything runs on the CPU")
        return
    try:
        driver, cuda = _text(pynvml.nvmlSystemGetDriverVersion()), _driver_cuda()
        installed = pynvml.nvmlDeviceGetCount()
    finally:
        pynvml.nvmlShutdown()
    gpus = visible_gpus()
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = "" if stated is None else f", CUDA_VISIBLE_DEVICES={stated}"
    if not gpus:
        yield advice(
            "GPU",
            f"driver {driver}: none of {count_of(installed, 'GPU')} is visible{shown}",
            "change CUDA_VISIBLE_DEVICES",
        )
        return
    yield good("driver", f"{driver}, up to CUDA {_dotted(cuda)}{shown}")
    for number, gpu in enumerate(gpus):
        yield check_gpu(f"GPU {number}", gpu)
    if len({gpu.name for gpu in gpus}) > 1:
        yield advice(
            "GPUs",
            "are of several models, and outputs of one experiment must come from one",
            "name those of one model in CUDA_VISIBLE_DEVICES",
        )


def check_gpu(name: str, gpu: Gpu) -> Check:
    memory = f"{gpu.memory_bytes / 2**30:.1f} GiB" if gpu.memory_bytes else "the machine's memory"
    found = f"{gpu.name}, {memory}"
    if not gpu.has_bfloat16:
        return advice(name, f"{found}: does not compute in bfloat16", "it trains and generates in float32, slowly")
    if gpu.used_bytes > gpu.memory_bytes * LARGEST_USED_SHARE:
        return advice(
            name,
            f"{found}, of which other programs use {gpu.used_bytes / 2**30:.1f} GiB",
            "end them, or name other GPUs in CUDA_VISIBLE_DEVICES: a training or an engine takes nearly all of a GPU",
        )
    return good(name, found)


def check_torch() -> Check:
    """Runs in a separate process: an import that crashes must not end `doctor`."""
    detail, error = _in_python(TORCH_REPORT)
    if detail is None:
        return blocks("torch", error, LOCAL_INSTALL)
    found: dict[str, Any] = json.loads(detail)
    shown = f"{found['version']}, built for {'CUDA ' + found['cuda'] if found['cuda'] else 'the CPU'}"
    if not visible_gpus():
        return good("torch", f"{shown}; no GPU to use")
    if found["cuda"] is None:
        return advice("torch", f"{shown}: the GPUs are not used", GPU_INSTALL)
    if found["works"]:
        return good("torch", f"{shown}, which works with the driver")
    return advice(
        "torch",
        f"{shown}; CUDA does not start with this driver, which has up to CUDA {_dotted(_installed_driver_cuda())}",
        "install a newer driver, or in a container pass the GPUs in (--gpus all)",
    )


def check_vllm() -> Check:
    gpus = visible_gpus()
    installed = next((name for name in VLLM.distributions if _version(name) != "?"), None)
    if installed is None:
        if not gpus:
            return good("vLLM", "not installed; the transformers engine generates on the CPU")
        return advice("vLLM", "not installed: transformers generates, many times slower on a GPU", GPU_INSTALL)
    detail, error = _in_python("import vllm; print(vllm.__version__)")
    if detail is None:
        return advice("vLLM", f"{_version(installed)} is installed, and {error}", f"install it again: {GPU_INSTALL}")
    return good("vLLM", detail)


def check_memory(base: Path | None) -> Iterator[Check]:
    free = available_host_bytes()
    gpus = visible_gpus()
    if free < SMALL_MEMORY_BYTES:
        yield advice(
            "memory", f"{decimal(free)} free", "end other programs: a training takes more on all but toy bases"
        )
    else:
        yield good("memory", f"{decimal(free)} free")
    if base is None:
        return
    own = min((gpu.memory_bytes for gpu in gpus), default=0)
    dtype = "bfloat16" if gpus and all(gpu.has_bfloat16 for gpu in gpus) else "float32"
    where, room = ("GPU", own) if own else ("", free)
    needed = weight_bytes(base, dtype)
    detail = f"weights {decimal(needed)} in {dtype}, {where + ' ' if where else ''}memory {decimal(room)}"
    if needed == 0:
        yield blocks("base in memory", f"{base} holds no .safetensors file", "weights in other formats are not read")
    elif needed > room:
        yield blocks("base in memory", detail, "take a smaller base or a larger machine")
    else:
        yield good("base in memory", f"{detail}; potstill plan and docs/one-gpu-machine.md say what training adds")


def check_sandbox() -> Check:
    try:
        layers = sandbox_layers()
    except Unsupported as error:
        return advice("sandbox", str(error), "benchmarks of code are not graded here; others are")
    wanted = ("seccomp", "own root", "network namespace")
    missing = [layer for layer in wanted if layer not in layers]
    if missing:
        return advice(
            "sandbox", f"{', '.join(layers)}; not {', '.join(missing)}", "docs/grading.md says what each layer needs"
        )
    return good("sandbox", ", ".join(layers))


def _in_python(code: str) -> tuple[str | None, str]:
    """Returns (the last line that `code` prints in a new Python, "") or (None, the reason of the failure)."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"its import takes more than {IMPORT_SECONDS:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode == 0 and lines:
        return lines[-1], ""
    return None, f"its import fails: {lines[-1] if lines else f'exit code {done.returncode}'}"


def _version(name: str) -> str:
    try:
        return version(name.replace("_", "-"))
    except PackageNotFoundError:
        return "?"


def _driver_cuda() -> int:
    """Returns 1000 x major + 10 x minor of the newest CUDA version that the driver supports.

    NVML must be initialized.
    """
    return int(pynvml.nvmlSystemGetCudaDriverVersion_v2())


def _installed_driver_cuda() -> int:
    pynvml.nvmlInit()
    try:
        return _driver_cuda()
    finally:
        pynvml.nvmlShutdown()


def _dotted(cuda: int) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
