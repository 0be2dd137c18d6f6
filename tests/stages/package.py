"""Packages that add stages, written to a folder like an installer's."""

import re
from collections.abc import Mapping
from pathlib import Path

from workloads.stages.base import Stage

PAGE = Path("docs/development/add-a-stage.md")

RULE_BREAKER = Stage(
    name="tally",
    unit_kind="tally",
    inputs=(),
    final_marker="tally",
    program="tally",
    activity="tallying",
    profile_part="report",
    work_gib=1,
    version="tally-1",
)
"""Has no inputs."""

WEIGH = '''
import sys

from workloads.api.records import StageRecord
from workloads.api.tasks import StageTask
from workloads.program import Context, run_program
from workloads.stages.base import Stage
from workloads.storage.markers import read_marker

WEIGH = Stage(
    name="weigh", unit_kind="weigh", inputs=("train",), final_marker="weight", program="weigh",
    activity="weighing", profile_part="report", work_gib=1, is_remade=True, follows="checkpoint", version="weigh-1",
)


def weigh(context: Context[StageTask]) -> None:
    """Commits the bytes of the checkpoint's files."""
    inputs = context.task.inputs
    source = read_marker(context.store, inputs.source, inputs.marker)
    values = {"bytes": sum(file.size for file in source.files)}
    record = StageRecord(stage=WEIGH.name, stage_version=inputs.stage_version, values=values)
    context.commit(WEIGH.final_marker, {}, record)


if __name__ == "__main__":
    sys.exit(run_program(StageTask, weigh))
'''

BROKEN = """
from workloads.stages.base import Stage

BROKEN = Stage(
    name="broken", unit_kind="broken", inputs=("grade",), final_marker="result", program="no_such_program",
    activity="breaking", profile_part="report", work_gib=1, follows="evaluation", version="broken-1",
)
"""


def of_page() -> dict[str, str]:
    """Returns the Python files of the page, by path."""
    blocks = re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert [path for path, _ in blocks] == ["tally/stage.py", "tally/program.py"]
    return {**dict(blocks), "tally/__init__.py": ""}


def install(site: Path, files: Mapping[str, str], entry_points: Mapping[str, str]) -> Path:
    """Installs the files and the entry points, which Python finds with `site` in PYTHONPATH."""
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    metadata = site / "toy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[potstill.stages]", *lines, ""]))
    return site
