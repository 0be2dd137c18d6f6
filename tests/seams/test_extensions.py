"""An experiment whose model family, benchmark, grader, engine and store all come from another distribution: `toy`, whose
code is on the pages docs/development/add-*.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.tiny import write_tiny_base
from tests.seams.toy import install, shown_files
from tests.train.world import sums, write_rows
from workloads.api.manifest import Manifest
from workloads.api.records import Marker, OutputsRecord
from workloads.api.units import GRADER_VERSION
from workloads.models.base import ModelFamily

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long]
STABLELM = ModelFamily(
    name="stablelm", title="StableLM", architecture="StableLmForCausalLM", model_type="stablelm"
)  # only to write the tiny base: the experiment uses the family that `toy` defines
# The random base cannot answer. The prefill makes every output begin with Paris, which is right for one of the two
# problems of toy-capitals.
EXPERIMENT = r"""
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: extensions}
spec:
  base: {model: base}
  data:
    sums: {uri: rows.jsonl, template: plain}
  training:
    lora: {rank: 4, alpha: 8, target: [attention, mlp]}
    learningRate: 1.0e-2
    batchSize: 10
    samples: 20
    sequenceTokens: 128
    overlong: drop
    checkpointEverySamples: 20
  runs:
    - {name: toy, data: sums}
  evaluation:
    engine: {name: toy-engine}
    benchmarks:
      - {name: toy-capitals, completion: boxed, basePrompt: {prefill: '\boxed{Paris}.'}}
      - {name: programs, uri: programs.jsonl, grader: code, limit: 1}
    budgets: [16]
"""
PROBLEM = {
    "id": "inc",
    "prompt": "Write inc.",
    "entry_point": "inc",
    "tests": [{"args": [1], "expected": 2}],
    "solution": "def inc(x):\n    return x + 1\n",
}


def potstill(folder: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in `folder`, with the distributions that are installed in `site`.

    The store `toy://NAME/PREFIX` of `toy` is the folder `NAME/PREFIX` in TOY_FOLDER.
    """
    environment = os.environ | {
        "POTSTILL_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(site),
        "TOY_FOLDER": str(folder / "stores"),
    }
    command = [sys.executable, "-P", "-m", "controller.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800)


def test_the_code_on_the_documentation_pages_runs_an_experiment_to_its_report(tmp_path: Path) -> None:
    site = install(tmp_path / "site")
    write_tiny_base(tmp_path / "base", STABLELM)
    write_rows(tmp_path / "rows.jsonl", sums(20))
    write_rows(tmp_path / "programs.jsonl", [PROBLEM])
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    (tmp_path / "profile.yaml").write_text(shown_files()["profile.yaml"])
    done = potstill(
        tmp_path, site, "run", "experiment.yaml", "--profile", "profile.yaml", "--store", "toy://lab/results"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    store = tmp_path / "stores" / "lab" / "results"
    assert any(line.startswith("report: toy://lab/results/") for line in done.stdout.splitlines())
    assert list(store.rglob("index.html"))
    markers = [Marker.model_validate_json(path.read_bytes()) for path in store.rglob("markers/*.json")]
    outputs = [marker.record for marker in markers if isinstance(marker.record, OutputsRecord)]
    assert outputs
    assert {record.versions["toy-engine"] for record in outputs} == {"0.1"}
    (path,) = store.rglob("manifest.json")
    manifest = Manifest.model_validate_json(path.read_bytes())
    assert {(b.name, b.grader, b.domain) for b in manifest.benchmarks} == {
        ("toy-capitals", "mentions", "geography"),
        ("programs", "code", None),
    }
    graded = {(e.model, e.benchmark): e for e in manifest.evaluations}
    assert {e.state for e in graded.values()} == {"done"}
    assert graded["base", "toy-capitals"].grader_version == f"{GRADER_VERSION}+toy-0.1"
    assert graded["base", "programs"].grader_version == GRADER_VERSION
    (budget,) = graded["base", "toy-capitals"].budgets
    assert (budget.counts.right, budget.counts.outputs) == (1, 2)

    golds = potstill(tmp_path, site, "bench", "test", "toy-capitals", "--json", "-")
    assert golds.returncode == 0, golds.stderr
    assert json.loads(golds.stdout)["right"] == 2

    without_toy = potstill(tmp_path, tmp_path / "nowhere", "validate", "experiment.yaml")
    assert without_toy.returncode == 2
    assert "toy-capitals is not built in" in without_toy.stderr
    assert "toy-engine is not one of transformers, vllm" in without_toy.stderr
