"""`potstill report`: makes the report again from the manifest in the store."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, cluster_at, store_of
from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl
from controller.cli.experiment_names import ExperimentName, InCluster, find_frozen, kind_of
from controller.cli.manifests import manifest_of
from controller.executors.kubernetes.acceptance import uid8_of


def report(
    experiment: ExperimentName,
    store: StoreUrl = DEFAULT_STORE,
    out: Annotated[
        Path, typer.Option("--out", help="Folder to write the page, report.md and CSV files to.", metavar="DIR")
    ] = Path("report"),
    profile: ProfileFile = None,
    cluster: InCluster = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Make the report of the results so far, also while the experiment runs. Nothing is run; the store is only read.

    For an Experiment in the cluster, the store is the one in its status, read with your own credentials. Example:
    potstill report experiment.yaml --out report
    """
    from workloads.report.files import report_files  # imported here, because plotly and pandas load slowly

    if kind_of(experiment, cluster) == "cluster":
        item = cluster_at(kubeconfig, context, namespace).experiment(experiment)
        opened, name, uid8 = store_of(item, None), experiment, uid8_of(item)
    else:
        opened, frozen = find_frozen(experiment, store, profile)
        name, uid8 = frozen.name, frozen.uid8
    manifest = manifest_of(opened, name, uid8)
    out.mkdir(parents=True, exist_ok=True)
    for file, text in report_files(manifest, opened).items():
        (out / file).write_text(text, encoding="utf-8")
        typer.echo(str(out / file))
