"""Prometheus metrics: controller-runtime's names for the loop, our own for experiments."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.decide.actions import Status


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._total = Counter(
            "controller_runtime_reconcile_total", "Rounds by result.", ["controller", "result"], registry=self.registry
        )
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds", "Length of a round.", ["controller"], registry=self.registry
        )
        labels = ["namespace", "experiment"]
        self._gpu_seconds = Gauge("potstill_gpu_seconds", "GPU-seconds used so far.", labels, registry=self.registry)
        self._checkpoints = Gauge(
            "potstill_checkpoints_committed", "Checkpoints committed.", labels, registry=self.registry
        )
        self._evaluations = Gauge(
            "potstill_evaluations", "Evaluations by state.", [*labels, "state"], registry=self.registry
        )

    def reconciled(self, _key: tuple[str, str], result: str, seconds: float) -> None:
        self._total.labels("experiment", result).inc()
        self._seconds.labels("experiment").observe(seconds)

    def experiment(self, key: tuple[str, str], status: Status) -> None:
        self._gpu_seconds.labels(*key).set(status.gpu_seconds)
        self._checkpoints.labels(*key).set(status.counts.checkpoints)
        for state in ("waiting", "running", "done", "failed"):
            count = sum(line.state == state for line in status.evaluations)
            self._evaluations.labels(*key, state).set(count)
