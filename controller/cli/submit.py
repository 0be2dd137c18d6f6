"""`potstill submit`: apply an experiment file to the cluster, and wait for its end if that is asked."""

from typing import Annotated, Any

import typer
import yaml

from controller.cli.cluster import Cluster, Context, Kubeconfig, Namespace, cluster_at, condition
from controller.cli.common import ExperimentFile, wide_console
from controller.cli.status import watch_until_finished
from controller.kubernetes.api import ApiError
from controller.spec.load import load_experiment

APPLY = "application/apply-patch+yaml"
MANAGER = "potstill"


def submit(
    path: ExperimentFile,
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Wait until it is finished.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Apply the file. With --wait: exit 0 if it succeeded, 1 if not."""
    experiment = load_experiment(path)
    body: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    cluster = cluster_at(kubeconfig, context, namespace or experiment.metadata.namespace)
    name = experiment.metadata.name
    item = apply(cluster, name, body)
    print(f"{cluster.namespace}/{name} submitted (generation {item['metadata']['generation']})")
    if not wait:
        return
    ending = condition(watch_until_finished(cluster, name, wide_console()), "Finished")
    print(f"{ending['reason']}: {ending['message']}")
    raise typer.Exit(0 if ending["reason"] == "Succeeded" else 1)


def apply(cluster: Cluster, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Server-side apply. What the server refuses is wrong input: raises typer.BadParameter with its words."""
    query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
    body["metadata"].pop("namespace", None)
    try:
        return cluster.api.request("PATCH", f"{cluster.experiments}/{name}", body=body, query=query, content_type=APPLY)
    except ApiError as error:
        if error.status in (400, 422):
            raise typer.BadParameter(error.message) from error
        raise
