"""`potstill report`: the report again, from the manifest in the store."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.common import DEFAULT_STORE, ExperimentFile, ProfileFile, StoreUrl, frozen_from, store_at
from controller.cli.manifests import manifest_of


def report(
    path: ExperimentFile,
    store: StoreUrl = DEFAULT_STORE,
    out: Annotated[Path, typer.Option("--out", help="Folder to write index.html, report.md and tables.csv to.")] = Path(
        "report"
    ),
    profile: ProfileFile = None,
) -> None:
    """Render what has been found so far; nothing is run and the store is only read."""
    from workloads.report.files import report_files  # here, because plotly and pandas take their time to load

    frozen = frozen_from(path, profile)
    opened = store_at(store)
    manifest = manifest_of(opened, frozen.name, frozen.uid8)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in report_files(manifest, opened).items():
        (out / name).write_text(text, encoding="utf-8")
        typer.echo(str(out / name))
