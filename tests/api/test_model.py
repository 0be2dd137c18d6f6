"""Models with the same stated fields share the set of their names, which takes less memory than one set for each."""

from copy import deepcopy
from datetime import UTC, datetime

from workloads.api.records import Progress
from workloads.api.units import MOST_SHARED_REFS, UnitRef

AT = datetime(2026, 1, 1, tzinfo=UTC)


def progress(**stated: float) -> Progress:
    fields = {"attempt": 1, "updated": AT, "phase": "train", "done": 1, "total": 8, "counted": "steps", **stated}
    return Progress.model_validate(fields)


def test_models_with_the_same_stated_fields_share_the_set() -> None:
    first, second, with_loss = progress(), progress(), progress(loss=1.5)
    assert first.model_fields_set is second.model_fields_set
    assert with_loss.model_fields_set == first.model_fields_set | {"loss"}
    assert Progress.model_validate_json(first.to_json()).model_fields_set == set(Progress.model_fields)


def test_a_changed_copy_does_not_change_the_set_of_others() -> None:
    first, second = progress(), progress()
    changed = first.model_copy(update={"loss": 0.5})
    assert changed.model_fields_set == second.model_fields_set | {"loss"}
    assert "loss" not in first.model_fields_set
    assert deepcopy(first) == second
    assert deepcopy(first).model_dump(exclude_unset=True) == second.model_dump(exclude_unset=True)


def test_references_that_are_read_are_shared_and_few_are_remembered() -> None:
    made = UnitRef(kind="train", digest="a" * 64)
    first, second = (UnitRef.model_validate_json(made.to_json()) for _ in range(2))
    assert first is second
    assert first == made
    for number in range(MOST_SHARED_REFS + 1):
        UnitRef.model_validate_json(f'{{"kind": "train", "digest": "{number:064x}"}}')
    again = UnitRef.model_validate_json(made.to_json())
    assert again == first
    assert again is not first
