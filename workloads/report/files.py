"""What a report consists of, by file name."""

from workloads.api.manifest import Manifest
from workloads.report.output_browser import reading
from workloads.report.page import page
from workloads.report.tables_csv import findings_csv, recipes_csv, runs_csv, samples_csv, table_csv
from workloads.report.text import markdown
from workloads.results.conclusions import conclusions
from workloads.results.manifest import without_corrupt
from workloads.storage.base import Store


def report_files(manifest: Manifest, store: Store) -> dict[str, str]:
    """index.html, report.md, and as CSV tables, runs, findings, samples and recipes. `store` gives the outputs to read.

    Raises StoreError, Corrupt.
    An evaluation whose files are not what was committed is shown as failed, whatever the manifest says of it.
    """
    read = reading(manifest, store)
    manifest = without_corrupt(manifest, read.corrupt)
    concluded = conclusions(manifest)
    return {
        "index.html": page(manifest, read),
        "report.md": markdown(manifest, concluded),
        "tables.csv": table_csv(manifest, concluded),
        "runs.csv": runs_csv(concluded),
        "findings.csv": findings_csv(concluded),
        "samples.csv": samples_csv(manifest),
        "recipes.csv": recipes_csv(manifest),
    }
