"""A generation's digest contains the tokens that are put before its prompts; without any it stays the same."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.cli.local_profile import profile_of_this_machine
from controller.experiment.load import load_experiment
from controller.experiment.resolve import resolve
from tests.models.tiny import add_bos
from tests.train.world import write_base
from workloads.api.evaluation_matrix import evaluation_matrix, generate_inputs
from workloads.api.experiment import FrozenExperiment
from workloads.api.units import GenerateInputs, unit_of
from workloads.text.tokenizer import load_tokenizer, opening_of

SPEC = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: opened}
spec:
  base: {model: base}
  candidates:
    - {name: other, model: base, template: TEMPLATE}
  evaluation:
    benchmarks:
      - {name: math-500, limit: 2}
    budgets: [48]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def frozen_for(base: Path, template: str = "plain") -> FrozenExperiment:
    (base.parent / "e.yaml").write_text(SPEC.replace("TEMPLATE", template))
    experiment = load_experiment(base.parent / "e.yaml")
    return resolve(experiment, base.parent, profile_of_this_machine()[0], datetime(2026, 1, 1, tzinfo=UTC))


def of_base(frozen: FrozenExperiment) -> GenerateInputs:
    return generate_inputs(frozen, evaluation_matrix(frozen, {})[0], None)


def of_candidate(frozen: FrozenExperiment) -> GenerateInputs:
    return generate_inputs(frozen, evaluation_matrix(frozen, {})[-1], None)


def test_without_a_token_before_texts_nothing_says_so(base: Path) -> None:
    frozen = frozen_for(base)
    assert opening_of(base) == load_tokenizer(base).opening == ()
    assert "opening" not in frozen.model_dump(mode="json", by_alias=True)
    assert "opening" not in of_base(frozen).model_dump(mode="json", by_alias=True)


def test_a_token_before_texts_is_in_the_digest_of_prompts_that_get_it(base: Path) -> None:
    add_bos(base)
    number = json.loads((base / "tokenizer.json").read_text())["added_tokens"][-1]["id"]
    assert opening_of(base) == load_tokenizer(base).opening == (number,)
    frozen = frozen_for(base)
    inputs = of_base(frozen)
    assert inputs.opening == (number,)
    assert unit_of(inputs) != unit_of(inputs.model_copy(update={"opening": ()}))
    assert GenerateInputs.model_validate_json(inputs.to_json()) == inputs
    assert FrozenExperiment.model_validate_json(frozen.to_json()) == frozen


def test_the_base_s_own_template_writes_it_itself(base: Path) -> None:
    add_bos(base)
    frozen = frozen_for(base, "base")
    assert of_candidate(frozen).opening == ()
    assert of_base(frozen).opening != ()
