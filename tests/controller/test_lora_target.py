"""The layers with adapter slots: the same for the base and every checkpoint of an experiment."""

from datetime import UTC, datetime
from pathlib import Path

from controller.experiment.load import parse_experiment
from controller.experiment.profile import local_profile
from controller.experiment.resolve import resolve
from controller.planner.pending_tasks import lora_target

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKSTART = (EXAMPLES / "quickstart.yaml").read_text()
EVERYWHERE, ATTENTION = "target: [attention, mlp]", "target: [attention]"
ONE_RUN = "label: Math dropped,"


def target_of(text: str) -> str:
    experiment = parse_experiment(text, "quickstart.yaml")
    return lora_target(resolve(experiment, EXAMPLES, local_profile(), datetime.now(UTC)).runs)


def test_it_is_the_attention_alone_where_all_runs_train_nothing_else() -> None:
    assert EVERYWHERE in QUICKSTART
    assert target_of(QUICKSTART) == "all"
    assert target_of(QUICKSTART.replace(EVERYWHERE, ATTENTION)) == "attention"


def test_one_run_that_trains_more_needs_slots_everywhere() -> None:
    more = f"{ONE_RUN} lora: {{rank: 8, alpha: 8, {EVERYWHERE}}},"
    assert ONE_RUN in QUICKSTART
    assert target_of(QUICKSTART.replace(EVERYWHERE, ATTENTION, 1).replace(ONE_RUN, more)) == "all"


def test_adapters_from_elsewhere_may_change_anything() -> None:
    candidate = "  candidates:\n    - {name: other, adapter: s3://bucket/adapter, content: 'sha256:%s'}\n" % ("0" * 64)
    text = QUICKSTART.replace(EVERYWHERE, ATTENTION).replace("  evaluation:\n", candidate + "  evaluation:\n")
    assert "candidates:" in text
    assert target_of(text) == "all"
    assert lora_target(()) == "all"
