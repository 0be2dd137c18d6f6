"""Functions for commands that use a cluster: the connection from a kubeconfig, the namespace, the Experiment."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from kubernetes import config
from kubernetes.config.config_exception import ConfigException

from controller.cli.results import Results, seen_in
from controller.executors.kubernetes.acceptance import uid8_of
from controller.executors.kubernetes.api import Api, ApiError, ApiUnreachable, connect
from workloads.accepted import read_experiment
from workloads.api import store_keys
from workloads.storage.base import Store, open_store

Json = dict[str, Any]
CLUSTER_ERRORS = (ApiError, ApiUnreachable, ConfigException)
DEFAULT_NAMESPACE = "default"

Name = Annotated[str, typer.Argument(help="The Experiment's name.", metavar="NAME")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Default: the kubeconfig context's.", metavar="NAMESPACE")
]
Context = Annotated[str | None, typer.Option("--context", help="A context of the kubeconfig.", metavar="CONTEXT")]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="Default: ~/.kube/config.", metavar="FILE")
]
StoreOverride = Annotated[
    str | None,
    typer.Option("--store", help="Where to read results, if not where the Experiment's status says.", metavar="URL"),
]


@dataclass(frozen=True)
class Cluster:
    api: Api
    namespace: str

    @property
    def experiments(self) -> str:
        return f"/apis/potstill.dev/v1alpha1/namespaces/{self.namespace}/experiments"

    def experiment(self, name: str) -> Json:
        """Raises typer.BadParameter if there is no Experiment of this name."""
        try:
            return self.api.request("GET", f"{self.experiments}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            names = [item["metadata"]["name"] for item in self.api.request("GET", self.experiments)["items"]]
            known = ", ".join(names) or "none"
            raise typer.BadParameter(
                f"there is no Experiment {name} in {self.namespace}; there are: {known}"
            ) from error


def cluster_at(kubeconfig: Path | None, context: str | None, namespace: str | None) -> Cluster:
    """Raises ConfigException if no kubeconfig names a cluster."""
    api = connect(kubeconfig, context)
    return Cluster(api, namespace or _namespace(kubeconfig, context))


def _namespace(kubeconfig: Path | None, context: str | None) -> str:
    try:
        contexts, active = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)
    except ConfigException:
        return DEFAULT_NAMESPACE
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return str(chosen["context"].get("namespace") or DEFAULT_NAMESPACE)


def condition(item: Json, kind: str) -> Json:
    """Returns the condition; an empty dict if the controller has not set it for the current generation."""
    generation = item["metadata"]["generation"]
    for one in item.get("status", {}).get("conditions", []):
        if one["type"] == kind and one.get("observedGeneration") == generation:
            found: Json = one
            return found
    return {}


def store_of(item: Json, store: str | None) -> Store:
    """Returns the store of the Experiment's results, or the one at `store`.

    Exits 1 if the Experiment was not accepted.
    """
    url = store or item.get("status", {}).get("store")
    if url is None:
        print("the Experiment was not accepted: there are no results; see potstill status", file=sys.stderr)
        raise typer.Exit(1)
    return open_store(url)


def results_of(item: Json, store: str | None) -> Results:
    """Reads the Experiment's results from its store with the caller's own credentials. Raises StoreError."""
    opened = store_of(item, store)
    frozen, _ = read_experiment(opened, store_keys.experiment_key(item["metadata"]["name"], uid8_of(item)))
    return Results(opened, frozen, seen_in(opened, frozen))
