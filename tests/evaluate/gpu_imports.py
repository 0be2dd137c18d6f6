"""Imports, on a machine without a GPU, what vLLM imports on one: `python -m tests.evaluate.gpu_imports [LIST]`.

vLLM chooses what to import by what it finds: the driver's library, a device, its compute capability. This program says
that there is a Hopper GPU, so that vLLM's modules for that GPU are imported; nothing is computed on it. It imports the
worker, the model classes of Qwen3 and its mixtures of experts, LoRA, and the modules of vLLM's kernel warm-up, which runs
on GPUs only; then the modules that LIST names (one a line), as `tests.gpu.record_imports` wrote them on a GPU. Prints each
module that cannot be imported, with the reason, and ends with status 1 if there was one.
"""

import ctypes.util
import importlib
import os
import pkgutil
import sys
import tempfile
from pathlib import Path

MODULES = (
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.worker.gpu.model_runner",
    "vllm.v1.engine.core",
    "vllm.v1.engine.llm_engine",
    "vllm.lora.worker_manager",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.qwen3_moe",
    "vllm.model_executor.determinism.batch_invariant",
    "vllm.model_executor.layers.quantization.fp8",
    "vllm.distributed.device_communicators.cuda_communicator",
    "vllm.v1.attention.backends.flash_attn",
)
PACKAGES = ("vllm.model_executor.warmup", "vllm.lora.ops.triton_ops", "vllm.lora.layers", "vllm.lora.punica_wrapper")
OF_OTHER_DEVICES = {"vllm.model_executor.warmup.rocm_segmented_attn_autotune_warmup"}
DRIVER = "libcuda.so.1"


def main() -> int:
    if "STAND_IN" not in os.environ:
        run_with_stand_in()
    pretend_hopper()
    failed: dict[str, str] = {}
    for name in (*MODULES, *PACKAGES):
        failed |= import_failure(name)
    for package in PACKAGES:
        if package not in failed:
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
                if module.name not in OF_OTHER_DEVICES:
                    failed |= import_failure(module.name)
    recorded = Path(sys.argv[1]).read_text().split() if len(sys.argv) > 1 else []
    for name in recorded:
        failed |= import_failure(name)
    for name, reason in failed.items():
        print(f"{name}: {reason}")
    print(f"{len(sys.modules)} modules are loaded; LIST has {len(recorded)}; {len(failed)} failed")
    return 1 if failed else 0


def run_with_stand_in() -> None:
    """Runs this program again in a new process, with a library under the driver's name, and ends with its exit status.

    Some extensions of vLLM are linked to the driver. Nothing calls it, so any library will do (see `RTLD_LAZY` below);
    libm is everywhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / DRIVER).symlink_to(library_path("libm.so.6"))
        environment = os.environ | {"LD_LIBRARY_PATH": folder, "STAND_IN": "1"}
        sys.exit(
            os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]], environment)
        )


def library_path(name: str) -> str:
    """The file of a shared library that this process has loaded, or can load."""
    ctypes.CDLL(name)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(f"/{name}"):
            return line.split()[-1]
    raise FileNotFoundError(f"{name} is not among the loaded libraries")


def pretend_hopper() -> None:
    """Replaces functions of torch and vLLM, so that they report one GPU of compute capability 9.0."""
    sys.setdlopenflags(os.RTLD_LAZY)  # the library in the driver's place lacks its functions, which are never called
    import torch

    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.get_device_name = lambda device=None: "NVIDIA H200"
    import vllm.platforms as platforms
    from vllm.platforms.cuda import NonNvmlCudaPlatform
    from vllm.platforms.interface import DeviceCapability

    class Hopper(NonNvmlCudaPlatform):  # type: ignore[misc]  # vLLM is not installed where mypy runs
        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
            return DeviceCapability(9, 0)

        @classmethod
        def get_device_name(cls, device_id: int = 0) -> str:
            return "NVIDIA H200"

    platforms._current_platform = Hopper()


def import_failure(name: str) -> dict[str, str]:
    """Imports the module. Returns its name and the error if that fails, else nothing."""
    try:
        importlib.import_module(name)
    except Exception as error:
        return {name: f"{type(error).__name__}: {error}"}
    return {}


if __name__ == "__main__":
    sys.exit(main())
