"""The trainer is chosen when the experiment is accepted, and is part of the digest."""

import json
from pathlib import Path

import pytest

from controller.experiment.errors import SpecError
from controller.experiment.trainer import base_architecture, check_sharding, choose_trainer
from workloads.api.model import canonical_json, digest_of
from workloads.api.tasks import ModelSource
from workloads.api.units import Lora
from workloads.models import FAMILIES

PLAIN = Lora(rank=4, alpha=8.0, target=("attention",))
PLACE = ("spec", "runs", 0)


@pytest.mark.parametrize(
    ("stated", "architecture", "expected"),
    [
        ("auto", "Qwen3ForCausalLM", "fast"),
        ("auto", "Qwen3MoeForCausalLM", "fast"),
        ("auto", None, "fast"),
        ("auto", "LlamaForCausalLM", "general"),
        ("auto", "NobodyKnowsForCausalLM", "general"),
        ("fast", "Qwen3ForCausalLM", "fast"),
        ("general", "Qwen3ForCausalLM", "general"),
        ("general", None, "general"),
    ],
)
def test_auto_is_fast_where_there_are_kernels(stated: str, architecture: str | None, expected: str) -> None:
    lora = PLAIN.model_copy(update={"target": ("all-linear",)}) if architecture == "NobodyKnowsForCausalLM" else PLAIN
    assert choose_trainer(stated, architecture, lora, PLACE) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"target": ("q_proj",)}, {"target": ("all-linear",)}, {"dropout": 0.1}, {"rslora": True}]
)
def test_settings_beyond_the_fast_trainer_are_general_with_auto_and_refused_with_fast(
    changes: dict[str, object],
) -> None:
    lora = PLAIN.model_copy(update=changes)
    assert choose_trainer("auto", "Qwen3ForCausalLM", lora, PLACE) == "general"
    with pytest.raises(SpecError, match="state general or auto"):
        choose_trainer("fast", "Qwen3ForCausalLM", lora, PLACE)


def test_full_fine_tuning_is_the_general_trainer_s_and_refused_with_fast() -> None:
    assert choose_trainer("auto", "Qwen3ForCausalLM", None, PLACE) == "general"
    assert choose_trainer("general", None, None, PLACE) == "general"
    with pytest.raises(SpecError, match="fast, which trains adapters only, and the method is full"):
        choose_trainer("fast", "Qwen3ForCausalLM", None, PLACE)


def test_fast_is_refused_for_another_architecture() -> None:
    with pytest.raises(SpecError, match="the base is a LlamaForCausalLM"):
        choose_trainer("fast", "LlamaForCausalLM", PLAIN, PLACE)


@pytest.mark.parametrize(
    ("architecture", "target", "message"),
    [
        ("LlamaForCausalLM", ("experts",), "a LlamaForCausalLM has no experts; it has attention, mlp"),
        ("Phi3ForCausalLM", ("q_proj",), "a Phi3ForCausalLM has no q_proj"),
        ("LlamaForCausalLM", ("all-linear", "q_proj"), "all-linear goes alone"),
    ],
)
def test_a_target_that_the_architecture_does_not_have_is_refused(
    architecture: str, target: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        choose_trainer("auto", architecture, PLAIN.model_copy(update={"target": target}), PLACE)


def test_the_architecture_is_read_from_a_directory_and_is_not_known_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    assert base_architecture(ModelSource(location=str(tmp_path), content="sha256:0")) == "LlamaForCausalLM"
    assert base_architecture(ModelSource(location="s3://bucket/base", content="sha256:0")) is None
    assert base_architecture(ModelSource(location=f"hub://nobody/nothing@{'0' * 40}", content="")) is None
    (tmp_path / "config.json").write_text("[")
    assert base_architecture(ModelSource(location=str(tmp_path), content="sha256:0")) is None


def test_the_architecture_of_a_hub_base_is_read_from_the_hub_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    revision = "a" * 40
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    base = ModelSource(location=f"hub://meta/small@{revision}", content=f"hub:meta/small@{revision}")
    assert base_architecture(base) is None
    snapshot = tmp_path / "models--meta--small" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    assert base_architecture(base) == "LlamaForCausalLM"


def test_fields_that_came_later_are_not_in_the_json_at_their_defaults() -> None:
    assert json.loads(canonical_json(PLAIN.model_dump(mode="json", by_alias=True))) == {
        "rank": 4,
        "alpha": 8.0,
        "target": ["attention"],
    }
    assert Lora.model_validate_json(PLAIN.to_json()) == PLAIN
    for changes in ({"dropout": 0.1}, {"rslora": True}):
        other = PLAIN.model_copy(update=changes)
        assert digest_of(other) != digest_of(PLAIN)
        assert Lora.model_validate_json(other.to_json()) == other


def test_a_family_is_known_by_its_architecture() -> None:
    assert {family.architecture for family in FAMILIES.values()} == set(FAMILIES)
    assert len({family.name for family in FAMILIES.values()}) == len(FAMILIES)
    assert [family.name for family in FAMILIES.values() if family.fast] == ["qwen3", "qwen3_moe"]


MOE = "MixtralForCausalLM"


@pytest.mark.parametrize(
    ("architecture", "changes", "starts", "message"),
    [
        (MOE, {"target": ("experts",), "dropout": 0.1}, False, "lora.dropout: must be 0 where experts are trained"),
        (MOE, {"target": ("all-linear",), "dropout": 0.1}, False, "lora.dropout: must be 0 where experts are trained"),
        (MOE, {"target": ("experts",)}, True, "lora.target: has the experts, and adapters of experts cannot"),
        (MOE, {"target": ("all-linear",)}, True, "lora.target: has the experts, and adapters of experts cannot"),
        (
            "NobodyKnowsForCausalLM",
            {"target": ("attention",)},
            False,
            "a NobodyKnowsForCausalLM is not known here: state all-",
        ),
    ],
)
def test_settings_that_the_general_trainer_refuses_are_refused_with_their_field(
    architecture: str, changes: dict[str, object], starts: bool, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        choose_trainer("auto", architecture, PLAIN.model_copy(update=changes), PLACE, starts=starts)


@pytest.mark.parametrize(
    ("architecture", "changes", "starts"),
    [
        (MOE, {"target": ("experts",)}, False),
        (MOE, {"target": ("attention",), "dropout": 0.1}, True),
        ("LlamaForCausalLM", {"target": ("all-linear",), "dropout": 0.1}, True),
        ("NobodyKnowsForCausalLM", {"target": ("all-linear",)}, False),
        (None, {"target": ("attention",)}, False),
    ],
)
def test_settings_that_the_trainers_support_are_not_refused(
    architecture: str | None, changes: dict[str, object], starts: bool
) -> None:
    choose_trainer("auto", architecture, PLAIN.model_copy(update=changes), PLACE, starts=starts)


def test_a_sharded_model_has_no_adapters_of_experts() -> None:
    check_sharding("always", "general", 2, PLACE)
    check_sharding("auto", "general", 2, PLACE, with_experts=True)
    with pytest.raises(SpecError, match="sharding: is always, and a sharded model has no adapters of experts"):
        check_sharding("always", "general", 2, PLACE, with_experts=True)
