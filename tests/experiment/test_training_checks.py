"""Settings that a trainer or an engine would refuse are refused with their field before anything runs, without
torch.
"""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.cli.local_profile import profile_of_this_machine
from controller.experiment.errors import SpecError
from controller.experiment.resolve import resolve
from controller.validation import Validation, validate_contents
from tests.experiment.bases import CONFIG, experiment_with, write_weights
from tests.train.world import sums, write_rows, write_tokenizer
from workloads.api.experiment import FrozenExperiment
from workloads.api.units import TrainInputs


def accepted(folder: Path, *changes: tuple[str, str], **config: Any) -> FrozenExperiment:
    base = write_tokenizer(folder / "base")
    write_weights(base / "model.safetensors", {})
    (base / "config.json").write_text(json.dumps(CONFIG | {"max_position_embeddings": 512} | config))
    write_rows(folder / "sums.jsonl", sums(15))
    write_rows(folder / "own.jsonl", [{"id": "a", "prompt": "1+1? " * 80, "answer": "2"}])
    return resolve(experiment_with(*changes), folder, profile_of_this_machine()[0], datetime.now(UTC))


def validated(frozen: FrozenExperiment, *changes: tuple[str, str]) -> Validation:
    return validate_contents(experiment_with(*changes), frozen)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_position_embeddings": 100}, "spec.runs[0].sequenceTokens: sequenceTokens 128 is above the base's"),
        ({"max_position_embeddings": 64}, "spec.evaluation.budgets: the largest is 64, and the base's context has 64"),
        ({"architectures": ["BertModel"]}, "spec.base.model: it cannot be trained: a BertModel is not a causal"),
        ({"quantization_config": {"bits": 4}}, "spec.base.model: it cannot be trained: it is quantised"),
        ({"auto_map": {"AutoModelForCausalLM": "x.Y"}}, "runs code of its own directory"),
    ],
    ids=["context", "budget", "encoder", "quantised", "remote code"],
)
def test_a_mistake_that_the_bases_configuration_shows_is_refused_with_the_field(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        accepted(tmp_path, **config)
    assert message in str(caught.value)


def test_a_token_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    frozen = accepted(tmp_path, vocab_size=200, max_position_embeddings=1024)
    (problem,) = validated(frozen).problems
    assert problem.path == ("spec", "data", "sums", "uri")
    assert "the base's embedding has 200 rows" in problem.message


def test_prompts_and_budget_that_do_not_fit_the_context_are_refused(tmp_path: Path) -> None:
    assert validated(accepted(tmp_path, max_position_embeddings=1024)).problems == []
    (problem,) = validated(accepted(tmp_path, max_position_embeddings=256)).problems
    assert problem.path == ("spec", "evaluation", "budgets")
    assert re.search("own: problem a: its prompt has .* Lower the budgets", problem.message)


def test_warnings_of_the_data_name_the_run(tmp_path: Path) -> None:
    longer = ("samples: 10", "samples: 10, warmupSteps: 500")
    (warning,) = validated(accepted(tmp_path, longer, max_position_embeddings=1024), longer).warnings
    assert warning.startswith("mine: WarmupTooLong: warmupSteps is 500 and the run has 3 steps")


def test_epochs_are_counted_in_rows_that_are_left(tmp_path: Path) -> None:
    frozen = accepted(tmp_path, ("samples: 10", "epochs: 2, checkpointEverySamples: 8, validationShare: 0.2"))
    (run,) = frozen.runs
    assert isinstance(run.inputs, TrainInputs)
    assert run.inputs.samples == 24, "two passes over 15 rows less 3 held out"
    assert run.checkpoints == (8, 16, 24)
    assert run.inputs.on_short == "repeat"
    stated = accepted(
        tmp_path,
        ("samples: 10", "samples: 24, checkpointEverySamples: 8, validationShare: 0.2"),
        ("sums.jsonl}", "sums.jsonl, onShort: repeat}"),
    )
    assert stated.runs[0].inputs == run.inputs, "the digest does not say how the number was stated"


def test_a_mixture_names_its_parts_and_their_weights(tmp_path: Path) -> None:
    mixed = "{sums: {uri: sums.jsonl}, more: {uri: sums.jsonl, format: alpaca}, both: {mixture: {sums: 3, more: 1}}}"
    frozen = accepted(tmp_path, ("{sums: {uri: sums.jsonl}}", mixed), ("data: sums}", "data: both}"))
    (run,) = frozen.runs
    assert isinstance(run.inputs, TrainInputs)
    assert [(part.format, part.weight) for part in run.inputs.mixture] == [("alpaca", 1), ("prompt", 3)]
    assert len(run.sources) == 2
    assert FrozenExperiment.model_validate_json(frozen.to_json()) == frozen
