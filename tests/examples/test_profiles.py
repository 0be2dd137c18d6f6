"""The profiles of examples/profiles: each is read, its flags are the engine's, and a base fits on its card."""

import re
from pathlib import Path

import pytest

from controller.cli.common import frozen_from
from controller.experiment.load import load_experiment
from controller.experiment.profile import load_profile
from controller.plan import make_plan
from workloads.engines.vllm.config import parse_flags
from workloads.storage.base import open_store

REPOSITORY = Path(__file__).parents[2]
PROFILES = sorted((REPOSITORY / "examples" / "profiles").glob("*.yaml"))
QUICKSTART = REPOSITORY / "examples" / "quickstart.yaml"
MEASURED = {"h200"}
"""Profiles whose speeds were measured."""


@pytest.mark.slow
@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_an_experiment_validates_and_plans_with_it(path: Path, tmp_path: Path) -> None:
    profile = load_profile(path)
    parse_flags(dict(profile.engine.flags))
    frozen = frozen_from(QUICKSTART, path)
    assert (frozen.engine.name, frozen.engine.dtype, frozen.engine.gpu) == ("vllm", "bfloat16", profile.gpu)
    made = make_plan(frozen, open_store(tmp_path.as_uri()), profile)
    assert (made.cost.training_gpu_hours is not None) == (path.stem in MEASURED)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_only_a_measured_card_states_rates(path: Path) -> None:
    profile = load_profile(path)
    assert (profile.train_tokens_per_second is not None) == (path.stem in MEASURED)
    assert (profile.generate_tokens_per_second is not None) == (path.stem in MEASURED)
    assert path.stem == profile.name


def test_the_tenth_of_16_02_differs_from_it_in_its_samples_only() -> None:
    whole, tenth = (
        load_experiment(REPOSITORY / "examples" / f"distill-16-02{suffix}.yaml").spec for suffix in ("", "-tenth")
    )
    assert [(run.samples, run.checkpoint_every_samples) for run in whole.runs] == [
        (10 * (run.samples or 0), 10 * (run.checkpoint_every_samples or 0)) for run in tenth.runs
    ]
    samples = {"samples", "checkpoint_every_samples"}
    assert [run.model_dump(exclude=samples) for run in whole.runs] == [
        run.model_dump(exclude=samples) for run in tenth.runs
    ]
    assert whole.model_dump(exclude={"runs"}) == tenth.model_dump(exclude={"runs"})


@pytest.mark.slow
def test_the_page_shows_what_the_memory_functions_say_and_each_card_holds_a_base() -> None:
    from scripts import model_memory  # here, because the trainer's memory loads torch

    page = (REPOSITORY / "docs" / "one-gpu-machine.md").read_text()
    shown = re.findall(r"^\|.*\|$", page.partition("<!-- tables -->")[2].partition("<!-- end of tables -->")[0], re.M)
    assert shown == [line for line in model_memory.tables().splitlines() if line]
    assert {path.stem for path in PROFILES} == set(model_memory.CARDS)
    for card, mib in model_memory.CARDS.items():
        model_memory.generation("Qwen3-4B", mib, model_memory.settings_of(card)).check()
