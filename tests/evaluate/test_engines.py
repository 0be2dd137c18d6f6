import shutil
from pathlib import Path

import pytest

from tests.evaluate.world import TRANSFORMERS
from workloads.api.records import ExitCode
from workloads.api.units import EngineIdentity
from workloads.engines.base import Demands, Engine
from workloads.evaluate.engine_start import start_engine
from workloads.models.shapes import read_shapes
from workloads.program import ProgramError
from workloads.text.tokenizer import load_tokenizer


def start(base: Path, asked: EngineIdentity) -> Engine:
    return start_engine(asked, base, read_shapes(base), load_tokenizer(base), Demands(64))


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"max_loras": 4}, "flag max_loras is 4; it has only batch_rows and batch_invariant"),
        ({"batch_rows": "many"}, "flag batch_rows is 'many'; must be of type int"),
        ({"batch_rows": 0}, "flag batch_rows is 0; it must be 1 or more"),
        ({"batch_invariant": 1}, "flag batch_invariant is 1; must be of type bool"),
    ],
)
def test_a_wrong_flag_is_refused_once_and_for_all(
    dense: Path, flags: dict[str, str | int | float | bool], complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint) as error:
        start(dense, TRANSFORMERS.model_copy(update={"flags": flags}))
    assert (error.value.exit_code, error.value.reason) == (ExitCode.BAD_CONFIGURATION, "BadEngineFlags")


def test_a_start_that_fails_for_another_reason_than_its_input_is_a_crash(
    dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no memory for this")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(RuntimeError, match="no memory"):
        start(dense, TRANSFORMERS)


def test_a_base_with_a_damaged_header_is_refused(dense: Path, tmp_path: Path) -> None:
    base = shutil.copytree(dense, tmp_path / "base")
    weights = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(weights[:8] + b"x" + weights[9:])
    with pytest.raises(ProgramError, match="is not a safetensors file") as error:
        start(base, TRANSFORMERS)
    assert error.value.exit_code == ExitCode.BAD_CONFIGURATION


def test_a_base_whose_weights_cannot_be_found_is_refused_once_and_for_all(dense: Path, tmp_path: Path) -> None:
    base = shutil.copytree(dense, tmp_path / "base")
    (base / "model.safetensors").rename(base / "model-1.safetensors")
    with pytest.raises(ProgramError, match="it has model-1.safetensors") as error:
        start(base, TRANSFORMERS)
    assert error.value.exit_code == ExitCode.BAD_CONFIGURATION
