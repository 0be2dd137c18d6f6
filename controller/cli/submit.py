"""`potstill submit`: applies an experiment file to the cluster, and waits for its end with --wait."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from controller.cli.cluster import Cluster, Context, Kubeconfig, Namespace, cluster_at, condition
from controller.cli.common import ExperimentFile, wide_console
from controller.cli.status import POLL_SECONDS, watch_until_finished
from controller.executors.kubernetes.api import ApiError, ApiUnreachable
from controller.experiment.load import load_experiment
from workloads.untrusted import printable

APPLY = "application/apply-patch+yaml"
MANAGER = "potstill"
ACCEPTED_SECONDS = 300.0
"""How long a controller may take to accept an applied Experiment."""


def submit(
    path: ExperimentFile,
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Wait until it is finished.")] = False,
    manifest_out: Annotated[
        Path | None,
        typer.Option(help="Wait until it is accepted; write the URL of its manifest here.", metavar="FILE"),
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Apply the experiment file to the cluster, whose controller then runs it.

    With --wait: exit 0 if it succeeded, 1 if not. Example: potstill submit experiment.yaml --wait
    """
    experiment = load_experiment(path)
    body: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    cluster = cluster_at(kubeconfig, context, namespace or experiment.metadata.namespace)
    name = experiment.metadata.name
    item = apply(cluster, name, body)
    print(f"{cluster.namespace}/{name} submitted (generation {item['metadata']['generation']})")
    if manifest_out is not None:
        manifest_out.write_text(accepted_manifest(cluster, name) + "\n", encoding="utf-8")
    if not wait:
        return
    ending = condition(watch_until_finished(cluster, name, wide_console()), "Finished")
    print(printable(f"{ending['reason']}: {ending['message']}"))
    raise typer.Exit(0 if ending["reason"] == "Succeeded" else 1)


def accepted_manifest(cluster: Cluster, name: str) -> str:
    """Returns the manifest's URL when the controller has accepted the current Experiment.

    Raises typer.BadParameter if it is refused, ApiUnreachable if no controller answers within ACCEPTED_SECONDS.
    """
    deadline = time.monotonic() + ACCEPTED_SECONDS
    while time.monotonic() < deadline:
        item = cluster.experiment(name)
        accepted = condition(item, "Accepted")
        if accepted.get("status") == "False":
            raise typer.BadParameter(f"{accepted['reason']}: {accepted['message']}")
        if accepted and "manifest" in item["status"]:
            return str(item["status"]["manifest"])
        time.sleep(POLL_SECONDS)
    raise ApiUnreachable(
        f"no controller accepted {cluster.namespace}/{name} in {ACCEPTED_SECONDS:.0f} s; one must run in that namespace"
    )


def apply(cluster: Cluster, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Performs a server-side apply.

    Raises typer.BadParameter with the server's message if the server refuses the object.
    """
    query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
    body["metadata"].pop("namespace", None)
    try:
        return cluster.api.request("PATCH", f"{cluster.experiments}/{name}", body=body, query=query, content_type=APPLY)
    except ApiError as error:
        if error.status in (400, 422):
            raise typer.BadParameter(error.message) from error
        raise
