"""`potstill retry`: let what was given up be tried again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, cluster_at
from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl, frozen_from, store_at
from controller.executors.kubernetes.api import MERGE_PATCH
from controller.executors.kubernetes.names import RETRY_ANNOTATION
from controller.retry import retry as retry_units


def retry(
    experiment: Annotated[
        str, typer.Argument(help="The experiment file, or with --cluster its name.", metavar="EXPERIMENT.YAML")
    ],
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Ask the cluster's controller.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Attempts that failed no longer count; the next round tries again. Exit 1 if nothing was given up."""
    if cluster:
        _ask_controller(experiment, namespace, context, kubeconfig)
        return
    retried = retry_units(frozen_from(Path(experiment), profile), store_at(store))
    for item in retried:
        print(f"{item.unit}: may be tried again after {item.attempts} attempts ({item.reason})")
    if not retried:
        print("nothing was given up")
        raise typer.Exit(1)


def _ask_controller(name: str, namespace: str | None, context: str | None, kubeconfig: Path | None) -> None:
    where = cluster_at(kubeconfig, context, namespace)
    where.experiment(name)
    body = {"metadata": {"annotations": {RETRY_ANNOTATION: datetime.now(UTC).isoformat(timespec="seconds")}}}
    where.api.request("PATCH", f"{where.experiments}/{name}", body=body, content_type=MERGE_PATCH)
    print(f"{where.namespace}/{name}: the controller was asked to try again; see potstill status {name}")
