"""The example of conversations: its data, the text with loss, and a whole run on a tiny Llama."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.cli.local_profile import profile_of_this_machine
from controller.experiment.load import load_experiment
from controller.experiment.resolve import resolve
from controller.training_data import read_training_data
from tests.models.tiny import write_tiny_base
from tests.text.chats import MARKED
from tests.tools.warm import WarmStart
from workloads.api.units import TrainInputs
from workloads.data.rendered import render
from workloads.models import FAMILIES

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_data_are_what_the_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(EXAMPLES / "chat" / "make_chats.py"), "--out", str(tmp_path)], check=True)
    assert (tmp_path / "chats.jsonl").read_bytes() == (EXAMPLES / "chat" / "chats.jsonl").read_bytes()


def test_one_run_learns_all_turns_and_the_other_the_last() -> None:
    frozen = resolve(load_experiment(EXAMPLES / "chat.yaml"), EXAMPLES, profile_of_this_machine()[0], datetime.now(UTC))
    for run, turns in zip(frozen.runs, (2, 1), strict=True):
        assert isinstance(run.inputs, TrainInputs)
        assert (run.inputs.samples, run.checkpoints) == (240, (240,)), "one pass, and a checkpoint at its end"
        data, tokenizer = read_training_data(frozen, run)
        assert data.warnings == ()
        for sample in render(data, tokenizer, 20):
            learned = [text for text, is_learned in sample.pieces if is_learned]
            assert len(learned) == turns
            assert all(text.startswith("The answer is \\boxed{") and text.endswith("<|im_end|>") for text in learned)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_conversations_train_a_tiny_llama_to_a_report(tmp_path: Path, warm: WarmStart) -> None:
    shutil.copytree(EXAMPLES / "chat", tmp_path / "chat")
    base = write_tiny_base(tmp_path / "quickstart" / "base", FAMILIES["LlamaForCausalLM"])
    (base / "chat_template.jinja").write_text(MARKED)
    (tmp_path / "chat.yaml").write_text((EXAMPLES / "chat.yaml").read_text())
    done = warm.potstill("run", "chat.yaml", "--store", "store", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = done.stdout.rsplit("report: file://", 1)[1].strip()
    assert "last_turn" in Path(report).read_text()
    (manifest,) = tmp_path.glob("store/experiments/*/*/manifest.json")
    assert "all_turns" in manifest.read_text()
    outputs = [json.loads(path.read_text()) for path in tmp_path.glob("store/units/train/*/markers/done.json")]
    assert {record["record"]["trainer"] for record in outputs} == {"general"}
