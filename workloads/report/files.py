"""Makes the files of a report, by name."""

from workloads.api.manifest import Manifest
from workloads.report.output_browser import reading
from workloads.report.page import page
from workloads.report.tables_csv import findings_csv, recipes_csv, runs_csv, samples_csv, table_csv
from workloads.report.text import markdown
from workloads.results.conclusions import conclusions
from workloads.results.manifest import without_corrupt
from workloads.storage.base import Store


def report_files(manifest: Manifest, store: Store) -> dict[str, str]:
    """Returns index.html, report.md, and as CSV tables, runs, findings, samples and recipes. Outputs are read from
    `store`.

    An evaluation with damaged files is shown as failed, whatever its state in the manifest. Raises StoreError, Corrupt.
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
