"""Without --profile, Potstill chooses the engine for the GPUs and the installed packages, and a line states it."""

from importlib.metadata import version

import pytest

from controller.cli.common import profile_from
from controller.cli.local_profile import profile_for
from controller.executors.local.machine import Gpu, visible_gpus
from controller.experiment.errors import SpecError
from controller.experiment.profile import local_profile

H200 = Gpu("GPU-aaaa", "NVIDIA H200", 141 * 2**30, (9, 0))
A100 = Gpu("GPU-bbbb", "NVIDIA A100-SXM4-80GB", 80 * 2**30, (8, 0))
V100 = Gpu("GPU-cccc", "Tesla V100-SXM2-32GB", 32 * 2**30, (7, 0))


def test_gpus_and_vllm_make_vllm_in_bfloat16_with_a_slot_for_each_gpu() -> None:
    profile, line = profile_for([H200, H200], "0.32.0+cu130")
    assert (profile.engine.name, profile.engine.version, profile.engine.dtype) == ("vllm", "0.32.0", "bfloat16")
    assert (profile.gpu, profile.precision) == ("NVIDIA H200", "bfloat16")
    assert (profile.training_slots, profile.evaluation_slots) == (2, 2)
    assert line == "engine: vllm 0.32.0 in bfloat16 on 2 x NVIDIA H200"


def test_gpus_without_vllm_make_transformers_in_bfloat16_and_say_why() -> None:
    profile, line = profile_for([H200], None)
    assert (profile.engine.name, profile.engine.dtype, profile.gpu) == ("transformers", "bfloat16", "NVIDIA H200")
    assert "vLLM, which is many times faster, is not installed" in line


def test_gpus_without_bfloat16_make_transformers_in_float32_and_say_why() -> None:
    profile, line = profile_for([V100], "0.32.0")
    assert (profile.engine.name, profile.engine.dtype, profile.precision) == ("transformers", "float32", "float32")
    assert "do not compute in bfloat16" in line


def test_no_gpu_makes_the_profile_that_it_always_made() -> None:
    profile, line = profile_for([], "0.32.0")
    assert profile == local_profile()
    assert (
        line
        == f"engine: transformers {version('transformers')} in float32 on the CPU, because no NVIDIA GPU is visible"
    )


def test_gpus_of_several_models_are_refused() -> None:
    with pytest.raises(SpecError, match=r"A100.*H200.*CUDA_VISIBLE_DEVICES"):
        profile_for([H200, A100], "0.32.0")


@pytest.mark.skipif(bool(visible_gpus()), reason="this machine has a GPU")
def test_commands_without_a_profile_take_this_machines() -> None:
    assert profile_from(None) == local_profile()
