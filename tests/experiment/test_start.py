"""`startFrom`: the adapter's content is in the digest, and rank, alpha and layers are the adapter's."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from controller.cli.local_profile import profile_of_this_machine
from controller.experiment.errors import SpecError
from controller.experiment.load import load_experiment
from controller.experiment.resolve import resolve
from controller.validation import validate_contents
from workloads.api.experiment import FrozenRun
from workloads.api.units import Lora, TrainInputs, unit_of
from workloads.models.shapes import read_shapes
from workloads.storage.content_digest import directory_content

BASE = Path(__file__).parents[2] / "examples" / "quickstart" / "base"
SPEC = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: further}
spec:
  base: {model: BASE}
  data:
    sums: {uri: rows.jsonl}
  training:
    batchSize: 10
    samples: 20
    sequenceTokens: 128
    overlong: drop
  runs:
    - {name: a, data: sums, startFrom: {adapter: adapter}}
  evaluation:
    benchmarks:
      - {name: math-500, limit: 2}
    budgets: [48]
""".replace("BASE", str(BASE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n")
    write_adapter(tmp_path / "adapter")
    return tmp_path


def write_adapter(folder: Path, **changes: object) -> None:
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["v_proj", "q_proj"], "use_rslora": False}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    save_file({"x": torch.zeros(1)}, folder / "adapter_model.safetensors")


def resolved(folder: Path, old: str = "", new: str = "") -> FrozenRun:
    (folder / "e.yaml").write_text(SPEC.replace(old, new) if old else SPEC)
    experiment = load_experiment(folder / "e.yaml")
    return resolve(experiment, folder, profile_of_this_machine()[0], datetime.now(UTC)).runs[0]


def inputs_of(run: FrozenRun) -> TrainInputs:
    assert isinstance(run.inputs, TrainInputs)
    return run.inputs


def test_settings_that_lora_does_not_state_are_taken_from_the_adapter(folder: Path) -> None:
    run = resolved(folder)
    inputs = inputs_of(run)
    assert inputs.lora == Lora(rank=4, alpha=6.0, target=("q_proj", "v_proj"))
    assert inputs.trainer == "general"
    assert inputs.start == directory_content(folder / "adapter")
    assert run.start is not None
    assert run.start.location == str(folder / "adapter")


def test_another_adapter_makes_another_train_unit(folder: Path) -> None:
    first = unit_of(resolved(folder).inputs)
    write_adapter(folder / "adapter", lora_dropout=0.5)
    assert unit_of(resolved(folder).inputs) != first


def test_without_start_from_neither_unit_nor_run_has_start(folder: Path) -> None:
    run = resolved(folder, ", startFrom: {adapter: adapter}", "")
    assert "start" not in run.model_dump(mode="json")
    assert "start" not in inputs_of(run).model_dump(mode="json")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("startFrom: {adapter: adapter}, lora: {rank: 8}", "lora.rank: is 8, and the adapter to start from has 4"),
        (
            "startFrom: {adapter: adapter}, lora: {alpha: 8}",
            "lora.alpha: is 8.0, and the adapter to start from has 6.0",
        ),
        ("startFrom: {adapter: adapter}, trainer: fast", "trainer: is fast, which trains new adapters only"),
        ("startFrom: {adapter: adapter}, method: full", "startFrom: needs method: lora"),
        ("startFrom: {adapter: nowhere}", "nowhere is not a directory"),
        ("startFrom: {adapter: 's3://lab/adapter'}", "state what it holds as content"),
        ("startFrom: {adapter: adapter, content: 'sha256:0'}", "not sha256:0"),
    ],
)
def test_settings_that_conflict_with_the_adapter_are_refused(new: str, message: str, folder: Path) -> None:
    with pytest.raises(SpecError) as refused:
        resolved(folder, "startFrom: {adapter: adapter}", new)
    assert message in str(refused.value)


@pytest.mark.parametrize("adapter", ["a\0b", "a" * 300, "a/" * 5000])
@pytest.mark.parametrize(
    ("old", "field"),
    [
        ("startFrom: {adapter: adapter}", "startFrom: {adapter: VALUE}"),
        ("{uri: rows.jsonl}", "{uri: VALUE}"),
        ("{uri: rows.jsonl}", "{uri: rows.jsonl, template: VALUE}"),
        (f"{{model: {BASE}}}", "{model: VALUE}"),
    ],
)
def test_an_impossible_path_is_refused_with_the_name_of_its_field(
    folder: Path, adapter: str, old: str, field: str
) -> None:
    name = field.rpartition("{")[2].rpartition("VALUE")[0].rpartition(":")[0].rpartition(" ")[2]
    with pytest.raises(SpecError, match=rf"{name}: .* is not a path: (embedded null|File name too long)") as refused:
        resolved(folder, old, field.replace("VALUE", json.dumps(adapter)))
    assert len(str(refused.value)) < 500


def test_an_s3_address_without_a_bucket_is_refused(folder: Path) -> None:
    stated = f"{{adapter: 's3://', content: 'sha256:{'0' * 64}'}}"
    with pytest.raises(SpecError, match="startFrom.adapter: s3:// names no bucket"):
        resolved(folder, "{adapter: adapter}", stated)


def test_a_directory_without_the_adapters_configuration_is_refused_whatever_lora_states(folder: Path) -> None:
    with pytest.raises(SpecError, match="startFrom.adapter: .*adapter_config.json does not exist"):
        resolved(folder, "{adapter: adapter}", f"{{adapter: {BASE}}}, lora: {{rank: 8}}")


@pytest.mark.parametrize(
    ("stated", "field", "message"),
    [
        ("mine@3000", "adapter", "mine@3000 is not a directory"),
        ("a", "adapter", "is not a directory"),
        ("store", "adapter", "holds no .safetensors file"),
        ("file:///somewhere/store", "adapter", "is not a location of an adapter: give a directory, s3://"),
        ("s3://lab/potstill", "content", "state what it holds as content"),
    ],
)
def test_for_a_run_name_or_a_store_the_error_says_to_fetch_first(
    folder: Path, stated: str, field: str, message: str
) -> None:
    (folder / "store" / "units").mkdir(parents=True)
    with pytest.raises(SpecError) as refused:
        resolved(folder, "{adapter: adapter}", f"{{adapter: '{stated}'}}")
    said = str(refused.value)
    checkpoint = stated if "@" in stated else "RUN@SAMPLES"
    assert f"startFrom.{field}: " in said
    assert message in said
    assert f"potstill fetch EXPERIMENT.YAML {checkpoint} DIR, then name DIR" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_alpha": 0}, "lora_alpha is 0, and must be more than 0"),
        ({"lora_alpha": -8}, "lora_alpha is -8, and must be more than 0"),
        ({"target_modules": ["q_proj", "../.."]}, "target_modules has '../..', which is not a layer's name"),
        ({"target_modules": [""]}, "target_modules has '', which is not a layer's name"),
    ],
)
def test_an_invalid_adapter_configuration_is_refused(folder: Path, changes: dict[str, object], said: str) -> None:
    write_adapter(folder / "adapter", **changes)
    with pytest.raises(SpecError, match="startFrom.adapter: .*adapter_config.json: ") as refused:
        resolved(folder)
    assert said in str(refused.value)


def factors(
    rank: int = 4, layer: str = "q_proj", value: float = 0.0, width: int | None = None
) -> dict[str, torch.Tensor]:
    """LoRA factors for the layers named `layer` in every block of the quickstart's base."""
    shapes = {name: size for name, size in read_shapes(BASE).linear().items() if name.endswith(f".{layer}")}
    return {
        f"base_model.model.{name}.lora_{factor}.weight": torch.full(size, value)
        for name, (out, inner) in shapes.items()
        for factor, size in (("A", (rank, width or inner)), ("B", (out, rank)))
    }


def problems_of_start(folder: Path, tensors: dict[str, torch.Tensor] | bytes) -> list[str]:
    """The problems that `potstill validate` finds in an adapter with these tensors."""
    path = folder / "adapter" / "adapter_model.safetensors"
    path.write_bytes(tensors) if isinstance(tensors, bytes) else save_file(tensors, path)
    (folder / "e.yaml").write_text(SPEC)
    experiment = load_experiment(folder / "e.yaml")
    frozen = resolve(experiment, folder, profile_of_this_machine()[0], datetime.now(UTC))
    found = validate_contents(experiment, frozen, read_data=False)
    return [str(problem) for problem in found.problems if "startFrom" in problem.path]


def test_an_adapter_that_fits_the_base_is_valid(folder: Path) -> None:
    assert problems_of_start(folder, factors()) == []


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (b"", "adapter_model.safetensors"),
        ({}, "holds no tensor"),
        (factors(width=7), "the base needs"),
        (factors(rank=8), "has shape [8"),
        (factors(value=float("nan")), "holds NaN or infinity"),
        ({"base_model.model.model.layers.0.other.lora_A.weight": torch.zeros(4, 4)}, "no linear layer"),
        ({"base_model.model.x.lora_magnitude_vector": torch.zeros(4)}, "is not a LoRA factor"),
    ],
    ids=["zero bytes", "no tensors", "another base", "another rank", "NaN", "another layer", "DoRA"],
)
def test_an_adapter_that_cannot_be_trained_further_is_refused_before_anything_runs(
    folder: Path, tensors: dict[str, torch.Tensor] | bytes, said: str
) -> None:
    (problem,) = problems_of_start(folder, tensors)
    assert problem.startswith(f"spec.runs[0].startFrom.adapter: {folder}/adapter: ")
    assert said in problem
