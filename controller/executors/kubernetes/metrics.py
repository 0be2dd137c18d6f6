"""Prometheus metrics: the loop has controller-runtime's names, experiments have our own."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.executors.kubernetes.measurements import evaluation_lags, gpu_seconds_by_run
from controller.executors.kubernetes.quota import QuotaQueue
from controller.planner.actions import Status, stored_state
from controller.snapshot.types import StoreSnapshot
from workloads.api.counts import evaluation_states
from workloads.api.experiment import FrozenExperiment

LAG_SECONDS = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


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
        self._run_gpu_seconds = Gauge(
            "potstill_run_gpu_seconds", "GPU-seconds of closed trainings.", [*labels, "run"], registry=self.registry
        )
        self._lag = Histogram(
            "potstill_evaluation_lag_seconds",
            "From a checkpoint's commit to its grades.",
            labels,
            registry=self.registry,
            buckets=LAG_SECONDS,
        )
        self._lags_seen: dict[tuple[str, str], set[str]] = {}
        self._checkpoints = Gauge(
            "potstill_checkpoints_committed", "Checkpoints committed.", labels, registry=self.registry
        )
        self._evaluations = Gauge(
            "potstill_evaluations", "Evaluations by state.", [*labels, "state"], registry=self.registry
        )

        self._limits = _LimitCollector()
        self._ages = _AgeCollector()
        self.registry.register(self._limits)
        self.registry.register(self._ages)

    def watch_limit(self, namespace: str, line: Callable[[], QuotaQueue | None]) -> None:
        """Exports the limit of evaluation pods, read at each scrape. Exports nothing if there is no limit."""
        self._limits.lines[namespace] = line

    def watch_age(self, namespace: str, ages: Callable[[], Mapping[str, float]]) -> None:
        """Exports for how long each watch has had no answer, read at each scrape. `ages`: seconds by resource."""
        self._ages.ages[namespace] = ages

    def reconciled(self, _key: tuple[str, str], result: str, seconds: float) -> None:
        self._total.labels("experiment", result).inc()
        self._seconds.labels("experiment").observe(seconds)

    def experiment(
        self, key: tuple[str, str], status: Status, frozen: FrozenExperiment, store: StoreSnapshot | None
    ) -> None:
        self._gpu_seconds.labels(*key).set(status.gpu_seconds)
        self._checkpoints.labels(*key).set(status.counts.checkpoints)
        states = evaluation_states(
            (line.model, line.benchmark, stored_state(line.state)) for line in status.evaluations
        )
        for state in ("waiting", "running", "done", "failed"):
            self._evaluations.labels(*key, state).set(list(states.values()).count(state))
        if store is not None:
            self._measure(key, frozen, store)

    def _measure(self, key: tuple[str, str], frozen: FrozenExperiment, store: StoreSnapshot) -> None:
        """Observes each evaluation's lag once. A new controller observes the existing evaluations again."""
        for run, seconds in gpu_seconds_by_run(frozen, store).items():
            self._run_gpu_seconds.labels(*key, run).set(seconds)
        reported = self._lags_seen.setdefault(key, set())
        for evaluation, seconds in evaluation_lags(frozen, store).items():
            if evaluation not in reported:
                reported.add(evaluation)
                self._lag.labels(*key).observe(seconds)

    def forget(self, key: tuple[str, str]) -> None:
        """Removes the metrics of a deleted experiment."""
        self._lags_seen.pop(key, None)
        for metric in (self._gpu_seconds, self._run_gpu_seconds, self._lag, self._checkpoints, self._evaluations):
            metric.remove_by_labels({"namespace": key[0], "experiment": key[1]})


class _AgeCollector(Collector):
    def __init__(self) -> None:
        self.ages: dict[str, Callable[[], Mapping[str, float]]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "potstill_watch_age_seconds", "Since a watch had its last answer.", labels=["namespace", "resource"]
        )
        for namespace, ages in self.ages.items():
            for resource, seconds in ages().items():
                family.add_metric([namespace, resource], seconds)
        yield family


class _LimitCollector(Collector):
    def __init__(self) -> None:
        self.lines: dict[str, Callable[[], QuotaQueue | None]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        lines = [(namespace, line) for namespace, read in self.lines.items() if (line := read()) is not None]
        if not lines:
            return
        meanings: tuple[tuple[str, str, Callable[[QuotaQueue], int]], ...] = (
            ("potstill_evaluation_pods", "Evaluation pods, those decided on included.", lambda q: len(q.holders)),
            ("potstill_evaluation_pods_limit", "Most evaluation pods at one time.", lambda q: q.most),
            (
                "potstill_evaluation_pods_waiting",
                "Experiments that wait for an evaluation pod.",
                lambda q: len(q.waiting),
            ),
        )
        for name, meaning, value in meanings:
            family = GaugeMetricFamily(name, meaning, labels=["namespace"])
            for namespace, line in lines:
                family.add_metric([namespace], value(line))
            yield family
