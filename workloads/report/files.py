"""What a report consists of, by file name."""

from workloads.contract.manifest import Manifest
from workloads.report.page import page
from workloads.report.text import markdown, table_csv
from workloads.store import Store


def report_files(manifest: Manifest, store: Store) -> dict[str, str]:
    """index.html, report.md and tables.csv. `store` gives the outputs to read. Raises StoreError."""
    return {"index.html": page(manifest, store), "report.md": markdown(manifest), "tables.csv": table_csv(manifest)}
