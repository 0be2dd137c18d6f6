"""A package with two added stages, written to a folder as an installer leaves it."""

from pathlib import Path

STAGES = """
from workloads.stages.base import Stage

WEIGH = Stage(
    name="weigh", unit_kind="weigh", inputs=("train",), final_marker="weight", program="toy_stages.weigh",
    activity="weighing", profile_part="report", work_gib=1, slots=lambda _: 1, is_remade=True,
    follows="checkpoint", version="weigh-1",
)
TALLY = Stage(
    name="tally", unit_kind="tally", inputs=("grade",), final_marker="tally", program="toy_stages.tally",
    activity="tallying", profile_part="report", work_gib=1, slots=lambda _: 1, is_remade=True,
    follows="evaluation", version="tally-1",
)
"""

WEIGH = '''
import sys

from toy_stages import WEIGH
from workloads.api.records import StageRecord
from workloads.api.tasks import StageTask
from workloads.program import Context, run_program
from workloads.storage.markers import read_marker


def weigh(context: Context[StageTask]) -> None:
    """Commits the bytes of the checkpoint's files."""
    task = context.task
    marker = read_marker(context.store, task.inputs.source, task.inputs.marker)
    values = {"bytes": sum(file.size for file in marker.files)}
    record = StageRecord(stage=WEIGH.name, stage_version=task.inputs.stage_version, values=values)
    context.commit(WEIGH.final_marker, {}, record)


if __name__ == "__main__":
    sys.exit(run_program(StageTask, weigh))
'''

TALLY = '''
import json
import os
import sys
import tempfile
from pathlib import Path

from toy_stages import TALLY
from workloads.api.records import StageRecord
from workloads.api.tasks import StageTask
from workloads.program import Context, run_program
from workloads.storage.markers import read_marker


def tally(context: Context[StageTask]) -> None:
    """Commits the number of verdicts, as a value and as a file."""
    if os.environ.get("TALLY_FAILS"):
        raise RuntimeError("told to fail")
    task = context.task
    marker = read_marker(context.store, task.inputs.source, task.inputs.marker)
    lines = context.store.get(marker.files[0].key).decode().splitlines()
    values = {"verdicts": len(lines)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tally.json"
        path.write_text(json.dumps(values))
        record = StageRecord(stage=TALLY.name, stage_version=task.inputs.stage_version, values=values)
        context.commit(TALLY.final_marker, {path.name: path}, record)


if __name__ == "__main__":
    sys.exit(run_program(StageTask, tally))
'''


def install(site: Path, entry_points: str = "weigh = toy_stages:WEIGH\ntally = toy_stages:TALLY\n") -> Path:
    """Python finds the package and its entry points with `site` in PYTHONPATH."""
    package = site / "toy_stages"
    package.mkdir(parents=True)
    for name, source in (("__init__", STAGES), ("weigh", WEIGH), ("tally", TALLY)):
        (package / f"{name}.py").write_text(source)
    metadata = site / "toy_stages-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-stages\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[potstill.stages]\n{entry_points}")
    return site
