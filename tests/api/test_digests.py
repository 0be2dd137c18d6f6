"""A unit's digest identifies its inputs: it is equal for equal inputs, differs for any change, and is stable across
versions.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workloads.api.model import canonical_json, digest_of
from workloads.api.records import FileRef, content_of
from workloads.api.units import Columns, Lora, Template, TrainInputs, unit_of


def train_inputs(**changes: object) -> TrainInputs:
    stated = {
        "base_content": "hub:Qwen/Qwen3-30B-A3B-Base@" + "0" * 40,
        "data_content": "a" * 64,
        "columns": Columns(),
        "template": Template(),
        "samples": 100,
        "batch_size": 50,
        "sequence_tokens": 2048,
        "overlong": "drop",
        "on_short": "fail",
        "checkpoints": (50, 100),
        "lora": Lora(rank=32, alpha=32, target=("attention",)),
        "learning_rate": 2e-4,
        "schedule": "cosine",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "gradient_clip": 1.0,
        "validation_share": 0.0,
        "precision": "bfloat16",
        "seed": 16,
        "numerics": "train-1",
    }
    return TrainInputs.model_validate(stated | changes)


def test_the_digest_of_a_question_never_changes() -> None:
    """A changed digest orphans every result in every store. Change a version constant on purpose instead."""
    assert unit_of(train_inputs()).digest == "40dd7f738d5fa225bc059425a1e57613300be453171d6514aaeac0e4c17a7e4f"


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-4},
        {"seed": 17},
        {"epoch": 1},
        {"overlong": "truncate"},
        {"numerics": "train-2"},
        {"trainer": "general"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_of_the_question_changes_the_digest(change: dict[str, object]) -> None:
    assert unit_of(train_inputs(**change)) != unit_of(train_inputs())


def test_full_fine_tuning_has_its_own_digest_without_lora() -> None:
    full = train_inputs(type="full", lora=None, trainer="general", numerics="general-1")
    assert unit_of(full).digest == "37b95b8c32a69376c2bd7e3faa163ec65155153d25a28a4fab815509c11ed9b8"
    assert "lora" not in full.model_dump(mode="json")
    assert digest_of(TrainInputs.model_validate_json(full.to_json())) == digest_of(full)


@pytest.mark.parametrize("change", [{"type": "full"}, {"lora": None}, {"type": "full", "lora": None}], ids="+".join)
def test_a_method_without_what_it_needs_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="type"):
        train_inputs(**change)


def test_a_digest_survives_a_round_trip_through_json() -> None:
    inputs = train_inputs()
    assert digest_of(TrainInputs.model_validate_json(inputs.to_json())) == digest_of(inputs)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden|Extra inputs"):
        train_inputs(learningrate=1.0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), json_values))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_content_depends_on_files_and_not_on_where_they_stand() -> None:
    one = FileRef(name="a", key="units/x/attempts/1/a", size=1, sha256="0" * 64)
    other = FileRef(name="b", key="units/x/attempts/1/b", size=2, sha256="1" * 64)
    moved = one.model_copy(update={"key": "units/x/attempts/2/a"})
    assert content_of((one, other)) == content_of((other, moved))
    assert content_of((one,)) != content_of((one.model_copy(update={"sha256": "2" * 64}),))
