"""Starts of a real vLLM on a CPU that end before an engine exists."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.evaluate.models import VLLM_FLAGS
from workloads.api.records import ExitCode
from workloads.api.units import EngineIdentity
from workloads.engines.base import Demands, Engine
from workloads.evaluate.engine_start import start_engine
from workloads.models.shapes import read_shapes
from workloads.program import ProgramError
from workloads.text.tokenizer import load_tokenizer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")


def start(base: Path, **flags: Any) -> Engine:
    asked = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS | flags)
    return start_engine(asked, base, read_shapes(base), load_tokenizer(base), Demands(80, 4, "all"))


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"max_lora": 4}, "did you mean 'max_loras'"),
        ({"max_model_len": 64}, "max_model_len is 64"),
        ({"max_model_len": 1 << 20}, r"(?s)vLLM does not take these flags with this base: .*max_model_len"),
        ({"attention_backend": "NONSENSE"}, r"(?s)vLLM does not take these flags with this base: .*NONSENSE"),
    ],
)
def test_a_flag_that_vllm_cannot_have_is_refused_once_and_for_all(
    dense: Path, flags: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint) as error:
        start(dense, **flags)
    assert (error.value.exit_code, error.value.reason) == (ExitCode.BAD_CONFIGURATION, "BadEngineFlags")


def test_an_error_of_vllm_after_it_took_its_flags_is_a_crash(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.engine.llm_engine import LLMEngine

    def fail(*_: object, **__: object) -> None:
        raise ValueError("Free memory on device is less than desired")

    monkeypatch.setattr(LLMEngine, "__init__", fail)
    with pytest.raises(ValueError, match="Free memory"):
        start(dense)


def test_a_base_that_cannot_be_merged_into_is_called_that(dense: Path, tmp_path: Path) -> None:
    base = shutil.copytree(dense, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(ProgramError, match="no tensor") as error:
        start(base, merge_adapters=True)
    assert (error.value.exit_code, error.value.reason) == (ExitCode.BAD_CONFIGURATION, "BadBase")
