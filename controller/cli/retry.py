"""`potstill retry`: allow new attempts of units that were given up."""

from datetime import UTC, datetime
from pathlib import Path

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, cluster_at
from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl
from controller.cli.experiment_names import ExperimentName, InCluster, find_frozen, kind_of
from controller.executors.kubernetes.api import MERGE_PATCH
from controller.executors.kubernetes.names import RETRY_ANNOTATION
from controller.retry import retry as retry_units
from workloads.words import count_of


def retry(
    experiment: ExperimentName,
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
    cluster: InCluster = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Allow new attempts of all units that were given up: earlier attempts no longer count.

    For an experiment in the cluster, the command asks the controller to do this. Exit 1 if nothing was given up.
    Example: potstill retry experiment.yaml
    """
    if kind_of(experiment, cluster) == "cluster":
        _ask_controller(experiment, namespace, context, kubeconfig)
        return
    opened, frozen = find_frozen(experiment, store, profile)
    retried = retry_units(frozen, opened)
    for item in retried:
        print(f"{item.unit}: can be tried again, after {count_of(item.attempts, 'earlier attempt')} ({item.reason})")
    if not retried:
        print("nothing was given up")
        raise typer.Exit(1)


def _ask_controller(name: str, namespace: str | None, context: str | None, kubeconfig: Path | None) -> None:
    cluster = cluster_at(kubeconfig, context, namespace)
    cluster.experiment(name)  # raises if there is none
    body = {"metadata": {"annotations": {RETRY_ANNOTATION: datetime.now(UTC).isoformat(timespec="seconds")}}}
    cluster.api.request("PATCH", f"{cluster.experiments}/{name}", body=body, content_type=MERGE_PATCH)
    print(f"{cluster.namespace}/{name}: the controller was asked to try again; see potstill status {name}")
