"""`potstill report`: the report again, from the manifest in the store."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, cluster_at, store_of
from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl, frozen_from, store_at
from controller.cli.manifests import manifest_of
from controller.cli.versions import is_version, version_named
from controller.executors.kubernetes.acceptance import uid8_of


def report(
    experiment: Annotated[
        str,
        typer.Argument(
            help="The experiment file, or a version of potstill list; with --cluster its name.",
            metavar="EXPERIMENT.YAML|NAME@VERSION",
        ),
    ],
    store: StoreUrl = DEFAULT_STORE,
    out: Annotated[Path, typer.Option("--out", help="Folder to write the page, report.md and CSV files to.")] = Path(
        "report"
    ),
    profile: ProfileFile = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Of an Experiment of the cluster.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Render what has been found so far; nothing is run and the store is only read.

    With --cluster the store is the one that the Experiment's status names, read with your own credentials.
    """
    from workloads.report.files import report_files  # here, because plotly and pandas take their time to load

    if cluster:
        item = cluster_at(kubeconfig, context, namespace).experiment(experiment)
        opened, name, uid8 = store_of(item, None), experiment, uid8_of(item)
    else:
        opened = store_at(store)
        named = is_version(experiment)
        frozen = version_named(opened, experiment) if named else frozen_from(Path(experiment), profile)
        name, uid8 = frozen.name, frozen.uid8
    manifest = manifest_of(opened, name, uid8)
    out.mkdir(parents=True, exist_ok=True)
    for file, text in report_files(manifest, opened).items():
        (out / file).write_text(text, encoding="utf-8")
        typer.echo(str(out / file))
