"""What runs inside vLLM's worker processes beside its own methods, called through `collective_rpc`."""

from workloads.evaluate.watchdog import listen_for_stack_requests


class WorkerExtension:
    """Mixed into vLLM's worker class (`worker_extension_cls`)."""

    def potstill_listen(self) -> bool:
        """From now on SIGUSR1 writes this process's stacks to stderr."""
        listen_for_stack_requests()
        return True
