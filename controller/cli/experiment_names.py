"""Finds an experiment by its file, by a version as `potstill list` prints it, or by its name in the cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from controller.cli.cluster import Json, cluster_at, results_of
from controller.cli.common import DEFAULT_STORE, frozen_from, store_at
from controller.cli.results import Results, results_here, results_of_version
from controller.cli.versions import is_version, version_named
from workloads.api.experiment import FrozenExperiment
from workloads.storage.base import Store

ExperimentName = Annotated[
    str,
    typer.Argument(
        help="The experiment file, a version of potstill list (name@version), or a name in the cluster.",
        metavar="EXPERIMENT",
    ),
]
FileOrVersion = Annotated[
    str,
    typer.Argument(
        help="The experiment file, or a version of potstill list (name@version).",
        metavar="EXPERIMENT.YAML|NAME@VERSION",
    ),
]
InCluster = Annotated[
    bool,
    typer.Option("--cluster", help="EXPERIMENT is a name in the cluster, even if it looks like a file or a version."),
]
Kind = Literal["file", "version", "cluster"]


def kind_of(experiment: str, in_cluster: bool = False) -> Kind:
    """Returns what the text names. A version is name@version. A file ends in .yaml or .yml, has a / or exists.

    Any other text is a name in the cluster.
    """
    if in_cluster:
        return "cluster"
    if is_version(experiment):
        return "version"
    is_file = experiment.endswith((".yaml", ".yml")) or "/" in experiment or Path(experiment).is_file()
    return "file" if is_file else "cluster"


@dataclass(frozen=True)
class ClusterOptions:
    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


@dataclass(frozen=True)
class Found:
    """`item`: the Experiment object in the cluster; None for a file or a version."""

    results: Results
    item: Json | None = None


def find_results(
    experiment: str, in_cluster: bool, store: str | None, profile: Path | None, options: ClusterOptions
) -> Found:
    """Reads the experiment's results from its store. Exits 4 if the store has none.

    Raises SpecError, StoreError, and the errors of `cluster_at` and `Cluster.experiment`.
    """
    kind = kind_of(experiment, in_cluster)
    if kind == "version":
        return Found(results_of_version(experiment, store))
    if kind == "file":
        return Found(results_here(Path(experiment), store, profile))
    item = cluster_at(options.kubeconfig, options.context, options.namespace).experiment(experiment)
    return Found(results_of(item, store), item)


def find_frozen(experiment: str, store: str, profile: Path | None) -> tuple[Store, FrozenExperiment]:
    """Returns the store, and the experiment of a file or a version. The experiment need not have run.

    Raises SpecError, StoreError, typer.BadParameter.
    """
    kind = kind_of(experiment)
    if kind == "cluster":
        raise typer.BadParameter(f"{experiment} is neither an experiment file nor name@version (see potstill list)")
    opened = store_at(store or DEFAULT_STORE)
    if kind == "version":
        return opened, version_named(opened, experiment)
    return opened, frozen_from(Path(experiment), profile)
