"""What runs inside vLLM's worker processes beside its own methods, called through `collective_rpc`."""

from typing import Any

from workloads.evaluate.watchdog import listen_for_stack_requests


class WorkerExtension:
    """Mixed into vLLM's worker class (`worker_extension_cls`)."""

    def potstill_listen(self) -> bool:
        """From now on SIGUSR1 writes this process's stacks to stderr."""
        listen_for_stack_requests()
        return True

    def potstill_keep_base_rows(self) -> bool:
        """On a CPU: rows without an adapter stay without one.

        They have slot -1, which vLLM's Triton kernels skip and its CPU kernels read as the last slot, so that the base
        would answer as that adapter (vllm-project/vllm#48421, in 0.32.0). Zeroing their rows between A and B suffices.
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
