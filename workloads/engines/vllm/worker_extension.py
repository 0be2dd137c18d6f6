"""Methods that are added to vLLM's worker processes and called through `collective_rpc`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workloads.engines.base import Adapter
from workloads.engines.merged_weights import MergedWeights
from workloads.engines.watchdog import listen_for_stack_requests
from workloads.models.shapes import read_shapes


@contextmanager
def only_errors(logger: logging.Logger) -> Iterator[None]:
    """Hides warnings: vLLM warns, by name, of every weight that a reload does not change."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class WorkerExtension:
    """Mixed into vLLM's worker class (`worker_extension_cls`)."""

    # An attribute of the worker, declared for the type checker.
    vllm_config: Any
    model_runner: Any
    device: Any
    _potstill_weights: MergedWeights | None = None

    def potstill_listen(self, program: int) -> bool:
        """From now on SIGUSR1 writes this process's stacks to a file that the program reads."""
        listen_for_stack_requests(program)
        return True

    def potstill_merge(self, base: str, adapter: str | None) -> bool:
        """Changes the weights to those of `base` with the adapter in the directory `adapter` merged in.

        Uses vLLM's own reloading, which knows the layout of each kernel's weights and keeps their addresses for CUDA
        graphs. An error leaves mixed weights: the engine must then end.
        """
        import torch
        from vllm.config import set_current_vllm_config

        if self._potstill_weights is None:
            shapes, dtype = read_shapes(Path(base)), self.vllm_config.model_config.dtype
            self._potstill_weights = MergedWeights.open(Path(base), shapes, dtype, self.device)
        wanted = Adapter(adapter, Path(adapter), 0) if adapter else None
        with (
            only_errors(logging.getLogger("vllm")),
            set_current_vllm_config(self.vllm_config),
            torch.device(self.device),
            torch.no_grad(),
        ):
            self.model_runner.reload_weights(weights_iterator=self._potstill_weights.with_adapter(wanted))
        return True

    def potstill_pin_packed_only(self) -> bool:
        """On a GPU: pins an adapter of experts in memory once, when its experts are packed.

        vLLM also pins each tensor as it reads it (experts of 48 layers: 37,248), and packing then copies them. (An
        adapter that has only experts is then not pinned at all: vLLM looks at the first layer that is not packed.)
        """
        from vllm.lora import lora_model

        if not hasattr(lora_model, "PIN_MEMORY"):
            logging.getLogger("vllm").warning("potstill: this vLLM pins adapters in a way not known here")
            return False
        lora_model.PIN_MEMORY = False
        return True

    def potstill_keep_base_rows(self) -> bool:
        """On a CPU: ensures that rows without an adapter get none.

        They have slot -1, which vLLM's Triton kernels skip. Its CPU kernels read it as the last slot, so that the base
        would answer as that adapter (vllm-project/vllm#48421, in 0.32.0). It is enough to set their rows between A and
        B to zero.
        """
        from vllm.lora.ops.torch_ops import lora_ops
        from vllm.lora.punica_wrapper import punica_cpu

        shrink = lora_ops.bgmv_shrink

        def shrink_adapter_rows(inputs: Any, weights: Any, output: Any, slots: Any, scaling: float = 1.0) -> None:
            shrink(inputs, weights, output, slots, scaling)
            output[: slots.shape[0]][slots == -1] = 0

        lora_ops.bgmv_shrink = shrink_adapter_rows
        punica_cpu.bgmv_shrink = shrink_adapter_rows
        return True

    def potstill_pack_experts_again(self) -> bool:
        """On a CPU: packs experts for their kernel whenever they are loaded.

        vLLM 0.32 packs them only at the first load, and treats reloaded ones as packed. Without a kernel it works as at
        the first load.
        """
        from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

        set_up = UnquantizedFusedMoEMethod._setup_kernel

        def set_up_as_at_first(method: Any, *arguments: Any, **more: Any) -> None:
            method.moe_kernel = None
            set_up(method, *arguments, **more)

        UnquantizedFusedMoEMethod._setup_kernel = set_up_as_at_first
        return True
