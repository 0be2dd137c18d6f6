"""Validate reads of a base what the trainer will refuse: its weights, its modules, and whether they fit the GPUs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.base_checks import BaseFindings, check_base_files
from controller.experiment.errors import SpecError
from controller.experiment.models import Experiment
from controller.experiment.profile import Profile, ProfileEngine, RolePod
from controller.experiment.resolve import resolve
from controller.validation import validate_contents
from tests.experiment.bases import CONFIG, EXPERIMENT, experiment_with, weights_of, write_weights
from tests.train.world import sums, write_rows, write_tokenizer
from workloads.api.tasks import ModelSource
from workloads.models import FAMILIES
from workloads.models.memory import gpu_bytes
from workloads.models.shapes import shapes_of
from workloads.models.weight_files import INDEX, SINGLE
from workloads.models.weight_names import LayerNames, layer_names

OTHER = {"architectures": ["SeedOssForCausalLM"], "model_type": "seed_oss"}
ALBERT = {"architectures": ["SoonForCausalLM"], "model_type": "soon"}
MIXTURE: dict[str, Any] = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 2}
LARGE: dict[str, Any] = {
    "num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 25_600, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
}  # fmt: skip
"""The sizes of Qwen3-32B: 64 GB in bfloat16."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path / "base")
    write_base(tmp_path)
    write_rows(tmp_path / "sums.jsonl", sums(15))
    write_rows(tmp_path / "own.jsonl", [{"id": "a", "prompt": "1+1?", "answer": "2"}])
    return tmp_path


def write_base(folder: Path, **config: Any) -> None:
    stated = CONFIG | config
    (folder / "base" / "config.json").write_text(json.dumps(stated))
    write_weights(folder / "base" / SINGLE, weights_of(stated))


def profile(gpu: str = "cpu", gpus: int = 0, precision: Any = "bfloat16") -> Profile:
    engine = ProfileEngine(name="transformers", version="5", dtype="bfloat16")
    return Profile(
        name="own", gpu=gpu, precision=precision, engine=engine, train=RolePod(gpus=gpus), evaluate=RolePod(gpus=gpus)
    )


def experiment_of(target: str = "attention", others: str = "seed: 1") -> Experiment:
    method = "method: full" if target == "all weights" else f"lora: {{target: [{target}]}}"
    return experiment_with(
        ("lora: {target: [attention]}", method),
        ("overlong: drop", f"overlong: drop, {others}"),
        ("[{name: mine, data: sums}]", "[{name: mine, data: sums}, {name: yours, data: sums, seed: 2}]"),
    )


def problems(folder: Path, target: str = "attention", others: str = "seed: 1") -> list[str]:
    experiment = experiment_of(target, others)
    frozen = resolve(experiment, folder, profile(), datetime.now(UTC))
    return [str(problem) for problem in validate_contents(experiment, frozen).problems]


def test_a_whole_base_has_no_problem(folder: Path) -> None:
    assert problems(folder) == []


def test_a_file_that_is_cut_is_refused_by_its_name(folder: Path) -> None:
    path = folder / "base" / SINGLE
    whole = path.read_bytes()
    for size in (4, 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        (problem,) = problems(folder)
        assert problem.startswith(f"spec.base.model: {folder}/base: {SINGLE}"), problem
        assert problem.endswith("; copy the file again")


def test_files_without_an_index_and_an_index_without_its_files_are_refused(folder: Path) -> None:
    base = folder / "base"
    (base / SINGLE).rename(base / "model-00001-of-00002.safetensors")
    assert "has neither model.safetensors nor" in problems(folder)[0]
    index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (base / INDEX).write_text(json.dumps({"weight_map": index}))
    assert "names files that do not exist: model-00002-of-00002.safetensors" in problems(folder)[0]
    (base / INDEX).write_text(json.dumps({"weight_map": index})[:-20])
    assert "is not an index of safetensors files" in problems(folder)[0]


def test_pickled_weights_alone_are_refused(folder: Path) -> None:
    (folder / "base" / SINGLE).rename(folder / "base" / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"holds no \.safetensors file; weights in other formats"):
        problems(folder)


def test_weights_that_the_configuration_needs_and_the_files_lack_are_refused(folder: Path) -> None:
    stated = weights_of(CONFIG)
    lacking = "model.layers.0.self_attn.k_proj.weight"
    write_weights(folder / "base" / SINGLE, {name: size for name, size in stated.items() if name != lacking})
    (problem,) = problems(folder)
    assert problem.endswith(f"its files lack 1 weight that config.json needs, first: {lacking}")
    write_weights(folder / "base" / SINGLE, stated | {lacking: (3, 64)})
    assert f"needs {lacking} of shape [64, 64], and the files have [3, 64]" in problems(folder)[0]


def test_a_quantised_base_that_is_only_asked_has_shapes_of_its_own(folder: Path) -> None:
    write_base(folder, quantization_config={"quant_method": "awq"})
    tensors = {name.replace(".weight", ".qweight") if "layers" in name else name: (1, 1) for name in weights_of(CONFIG)}
    write_weights(folder / "base" / SINGLE, tensors)
    (folder / "mine").mkdir()
    write_weights(folder / "mine" / "adapter_model.safetensors", {})
    training = next(line for line in EXPERIMENT.splitlines(keepends=True) if "training:" in line)
    experiment = experiment_with(
        ("  runs: [{name: mine, data: sums}]\n", ""),
        ("  data: {sums: {uri: sums.jsonl}}\n", "  candidates: [{name: mine, adapter: mine}]\n"),
        (training, ""),
    )
    frozen = resolve(experiment, folder, profile("NVIDIA L40S", 1), datetime.now(UTC))
    assert validate_contents(experiment, frozen).problems == []


def test_a_module_that_an_unknown_architecture_lacks_is_refused_with_those_it_has(folder: Path) -> None:
    write_base(folder, **OTHER)
    assert problems(folder, "q_proj") == []
    found = problems(folder, "q_prj, v_proj")
    assert found == [
        f"spec.runs[{run}].lora.target: no weight of the base belongs to a linear module q_prj; did you mean q_proj?; "
        "it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
        for run in (0, 1)
    ]


def test_experts_are_no_linear_modules_of_their_own(folder: Path) -> None:
    write_base(folder, **MIXTURE)
    assert problems(folder, "experts") == []
    assert "linear module outside of experts gate_proj" in problems(folder, "gate_proj")[0]
    with pytest.raises(SpecError, match="a Qwen3MoeForCausalLM has no mlp"):
        problems(folder, "mlp")


def test_an_architecture_that_transformers_does_not_know_is_warned_of(folder: Path) -> None:
    write_base(folder, **ALBERT)
    experiment = experiment_of("all-linear")
    frozen = resolve(experiment, folder, profile(), datetime.now(UTC))
    (warning,) = validate_contents(experiment, frozen).warnings
    assert warning.startswith("base: transformers 5")
    assert warning.endswith("of this machine has no causal language model of type 'soon'")


def elsewhere(
    folder: Path, location: str, own: Profile, target: str = "attention", others: str = "seed: 1", **config: Any
) -> BaseFindings:
    """Returns the findings for a base of which only the small files are on this machine.

    The experiment is resolved before they are read.
    """
    experiment = experiment_of(target, others)
    frozen = resolve(experiment, folder, own, datetime.now(UTC))
    frozen = frozen.model_copy(update={"base": ModelSource(location=location, content="sha256:0")})
    small = folder / "small"
    small.mkdir(exist_ok=True)
    (small / "config.json").write_text(json.dumps(CONFIG | config))
    return check_base_files(frozen, experiment.spec, small)


def test_a_base_in_a_store_is_refused_for_what_its_configuration_shows(folder: Path) -> None:
    bucket = "s3://models/base"
    assert elsewhere(folder, bucket, profile()).problems == []
    llama = elsewhere(folder, bucket, profile(), architectures=["LlamaForCausalLM"], model_type="llama").problems
    assert [problem.path for problem in llama] == [("spec", "runs", 0, "trainer"), ("spec", "runs", 1, "trainer")]
    assert "must be general: the base is a LlamaForCausalLM" in llama[0].message
    (quantised,) = elsewhere(folder, bucket, profile(), quantization_config={"bits": 4}).problems
    assert "it is quantised" in quantised.message
    (no_mlp, _) = elsewhere(folder, bucket, profile(), "mlp", moe_intermediate_size=8, **MIXTURE).problems
    assert str(no_mlp).startswith(
        "spec.runs[0].lora.target: a Qwen3MoeForCausalLM has no mlp; it has attention, experts"
    )
    short = elsewhere(folder, bucket, profile(), max_position_embeddings=100).problems
    assert ("spec", "runs", 1, "sequenceTokens") in [problem.path for problem in short]


def test_module_names_of_a_hub_base_are_read_from_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    revision = "a" * 40
    base = ModelSource(location=f"hub://lab/large@{revision}", content=f"hub:lab/large@{revision}")
    config = CONFIG | OTHER
    assert layer_names(base, config, shapes_of(config)) is None, "neither weights nor an index are here"
    snapshot = tmp_path / "models--lab--large" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    index = {"model.layers.0.attn.c_attn.weight": "a", "model.layers.0.norm1.weight": "a", "lm_head.weight": "b"}
    (snapshot / INDEX).write_text(json.dumps({"weight_map": index}))
    names = layer_names(base, config, shapes_of(config))
    assert names is not None
    assert names.linear == ("c_attn",)
    assert "q_proj" not in names.all


def test_a_name_that_transformers_makes_while_it_loads_may_be_a_module() -> None:
    names = LayerNames(frozenset({"attn"}), ("attn",), ("mixtral", "MixtralModel"))
    assert names.may_be_renamed("gate_up_proj")
    assert not names.may_be_renamed("qq_proj")


HUB = "hub://lab/large@" + "a" * 40


@pytest.mark.parametrize(
    ("gpu", "gpus", "target", "others", "refused"),
    [
        ("NVIDIA-H200", 1, "attention", "seed: 1", False),
        ("NVIDIA L40S", 1, "attention", "seed: 1", True),
        ("NVIDIA L40S", 2, "attention", "seed: 1", True),
        ("NVIDIA L40S", 4, "attention", "trainer: general", False),
        ("NVIDIA L40S", 4, "attention", "trainer: general, sharding: never", True),
        ("NVIDIA H100 80GB HBM3", 1, "attention", "seed: 1", False),
        ("NVIDIA H100 80GB HBM3", 2, "all weights", "seed: 1", True),
        ("NVIDIA X", 1, "attention", "seed: 1", False),
        ("cpu", 0, "attention", "seed: 1", False),
    ],
)
def test_weights_that_no_gpu_holds_are_refused_before_anything_runs(
    gpu: str, gpus: int, target: str, others: str, refused: bool, folder: Path
) -> None:
    found = elsewhere(folder, HUB, profile(gpu, gpus), target, others, **LARGE)
    assert bool(found.problems) == refused, found.problems
    for problem in found.problems:
        assert problem.path == ("spec", "base", "model")
        assert f"a {gpu} has" in problem.message or f"x {gpu} has" in problem.message


def test_both_runs_are_named_in_one_message_with_bytes(folder: Path) -> None:
    found = elsewhere(folder, HUB, profile("NVIDIA L40S", 2), **LARGE)
    (problem,) = found.problems
    assert problem.message.startswith("mine, yours: weights in bfloat16 take 6")
    assert problem.message.endswith("and a NVIDIA L40S has 43.6 GB usable: take a smaller base or a larger GPU")


def test_weights_that_leave_little_room_are_warned_of(folder: Path) -> None:
    found = elsewhere(folder, HUB, profile("NVIDIA A100-SXM4-70GB", 1), **LARGE)
    assert found.problems == []
    (warning,) = found.warnings
    assert warning.endswith("usable: little is left for activations")


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("NVIDIA H100 80GB HBM3", 80), ("NVIDIA A100-PCIE-40GB", 40), ("nvidia-a100-sxm4-80gb", 80),
        ("NVIDIA H200 MIG 1g.18gb", 18), ("NVIDIA H100 PCIe", None), ("NVIDIA H200 MIG", None), ("cpu", None),
    ],
)  # fmt: skip
def test_a_gpu_s_name_may_state_its_memory(name: str, gib: int | None) -> None:
    assert gpu_bytes(name) == (None if gib is None else gib * 2**30)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_base_as_transformers_saves_it_has_the_weights_of_its_family(family: Any, tmp_path: Path) -> None:
    from tests.models.tiny import write_tiny_base
    from workloads.models.fits import why_not_loaded
    from workloads.models.shapes import read_shapes
    from workloads.models.weight_files import read_weights

    base = write_tiny_base(tmp_path, family)
    tensors = read_weights(base)
    assert "model.embed_tokens.weight" in tensors
    assert why_not_loaded(read_shapes(base), tensors) is None
