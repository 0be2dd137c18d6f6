"""`POTSTILL_STORE=<url> python -m workloads.report <task key>`: renders the experiment's manifest."""

import sys
import tempfile
from pathlib import Path

from workloads.api import store_keys
from workloads.api.manifest import Manifest
from workloads.api.model import sha256_of
from workloads.api.records import ReportRecord
from workloads.api.tasks import ReportTask
from workloads.api.units import REPORT_VERSION
from workloads.program import Context, ProgramError, other_version, run_program
from workloads.report.files import report_files


def main(context: Context[ReportTask]) -> None:
    """Makes the report of the manifest that the task names, writes its files to the experiment's folder, and commits
    them.

    If the manifest has changed since, another task makes its report, and this one ends with Superseded.
    """
    task = context.task
    owner = task.owner
    if task.inputs.report_version != REPORT_VERSION:
        raise other_version(task.inputs.report_version, REPORT_VERSION)
    data = context.store.get(store_keys.manifest_key(owner.experiment, owner.uid8))
    if sha256_of(data) != task.inputs.manifest_content:
        raise ProgramError(12, "Superseded", "the manifest has changed since; its own report task follows")
    manifest = Manifest.model_validate_json(data)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        for name, text in report_files(manifest, context.store).items():
            files[name] = Path(folder) / name
            files[name].write_text(text, encoding="utf-8")
        record = ReportRecord(manifest_sha256=task.inputs.manifest_content, report_version=task.inputs.report_version)
        for name, path in files.items():
            context.store.put(store_keys.report_prefix(owner.experiment, owner.uid8) + name, path.read_bytes())
        context.commit(store_keys.REPORT, files, record)


if __name__ == "__main__":
    sys.exit(run_program(ReportTask, main))
