"""A new user's first experiment on a base other than Qwen3: from the file to the report, without a field about
trainers.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.models.tiny import write_tiny_base
from tests.tools.warm import WarmStart
from tests.train.world import sums, write_rows
from workloads.api.records import Marker, TrainRecord
from workloads.models import FAMILIES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long]
EXPERIMENT = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: first}
spec:
  base: {model: base}
  data:
    sums: {uri: rows.jsonl, template: plain}
  training:
    lora: {rank: 4, alpha: 8, target: [attention, mlp]}
    learningRate: 1.0e-2
    batchSize: 10
    samples: 40
    sequenceTokens: 128
    overlong: drop
    checkpointEverySamples: 20
  runs:
    - {name: plain, data: sums}
    - {name: named, data: sums, lora: {rank: 4, alpha: 8, target: [q_proj, v_proj], dropout: 0.1, rslora: true}}
    - {name: whole, data: sums, method: full, learningRate: 1.0e-3}
  evaluation:
    benchmarks:
      - {name: own, uri: bench.jsonl, grader: exact}
    budgets: [16]
"""


def test_a_tiny_llama_is_trained_and_evaluated_to_a_report(tmp_path: Path, warm: WarmStart) -> None:
    write_tiny_base(tmp_path / "base", FAMILIES["LlamaForCausalLM"])
    base_weights = load_file(tmp_path / "base" / "model.safetensors")
    write_rows(tmp_path / "rows.jsonl", sums(40))
    write_rows(
        tmp_path / "bench.jsonl", ({"id": f"p{n}", "prompt": f"What is {n}?", "answer": str(n)} for n in range(4))
    )
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    done = warm.potstill(
        *("run", "experiment.yaml", "--store", "store"),
        folder=tmp_path,
        environment={"POTSTILL_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    markers = [Marker.model_validate_json(path.read_bytes()) for path in tmp_path.rglob("markers/done*")]
    records = [marker.record for marker in markers if isinstance(marker.record, TrainRecord)]
    assert [record.trainer for record in records] == ["general", "general", "general"]
    words = ("fetch", "experiment.yaml", "whole@last", "whole", "--store", "store")
    done = warm.potstill(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    changed = load_file(tmp_path / "whole" / "model.safetensors")
    assert not torch.equal(*(weights["lm_head.weight"] for weights in (changed, base_weights)))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "whole").config.vocab_size == 264
    reports = list((tmp_path / "store").rglob("report*/index.html")) or list((tmp_path / "store").rglob("*.html"))
    assert reports
    assert json.loads((tmp_path / "base" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
