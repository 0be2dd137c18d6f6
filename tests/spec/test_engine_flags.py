"""The engine of an experiment: the profile's, with slots for what the experiment trains."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.spec.load import parse_experiment
from controller.spec.profile import Profile
from controller.spec.resolve import resolve

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKSTART = (EXAMPLES / "quickstart.yaml").read_text()
EVERYWHERE, ATTENTION = "target: [attention, mlp]", "target: [attention]"
ONE_RUN = "label: Math dropped,"


def flags_of(text: str, engine: str = "vllm", **flags: str | bool) -> dict[str, str | int | float | bool]:
    profile = Profile.model_validate({"engine": {"name": engine, "version": "0.32.0", "flags": flags}})
    return resolve(parse_experiment(text, "quickstart.yaml"), EXAMPLES, profile, datetime.now(UTC)).engine.flags


def test_slots_are_kept_for_the_attention_only_where_all_runs_train_it_only() -> None:
    assert EVERYWHERE in QUICKSTART
    assert flags_of(QUICKSTART) == {}
    assert flags_of(QUICKSTART.replace(EVERYWHERE, ATTENTION)) == {"lora_target": "attention"}


def test_one_run_that_trains_more_needs_slots_everywhere() -> None:
    more = f"{ONE_RUN} lora: {{rank: 8, alpha: 8, {EVERYWHERE}}},"
    assert ONE_RUN in QUICKSTART
    assert flags_of(QUICKSTART.replace(EVERYWHERE, ATTENTION, 1).replace(ONE_RUN, more)) == {}


def test_adapters_from_elsewhere_may_change_anything() -> None:
    candidate = "  candidates:\n    - {name: other, adapter: s3://bucket/adapter, content: 'sha256:%s'}\n" % ("0" * 64)
    text = QUICKSTART.replace(EVERYWHERE, ATTENTION).replace("  evaluation:\n", candidate + "  evaluation:\n")
    assert "candidates:" in text
    assert flags_of(text) == {}


@pytest.mark.parametrize("stated", ["all", "attention"])
def test_what_the_profile_says_stays(stated: str) -> None:
    for text in (QUICKSTART, QUICKSTART.replace(EVERYWHERE, ATTENTION)):
        assert flags_of(text, lora_target=stated) == {"lora_target": stated}


def test_another_engine_has_no_slots() -> None:
    assert flags_of(QUICKSTART.replace(EVERYWHERE, ATTENTION), "transformers") == {}
