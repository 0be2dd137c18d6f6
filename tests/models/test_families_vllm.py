"""A real vLLM on a CPU loads the adapters and full weights of every family; the canary checks them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluate.models import VLLM_FLAGS
from tests.models.test_families import BY_NAME, canary_error, lora_of, train_tiny
from tests.models.test_full import LEARNING_RATE, weights_canary_error
from tests.models.tiny import vllm_sizes
from workloads.api.units import EngineIdentity
from workloads.models.base import ModelFamily

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")


def engine_of(family: ModelFamily) -> EngineIdentity:
    """vLLM has no kernels for adapters of experts on a CPU: these are merged into its weights."""
    flags = VLLM_FLAGS | ({"merge_adapters": True} if family.experts else {})
    return EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=flags)


QUICK = ("llama", "qwen3_moe")
"""Families that `make test-vllm` tests: one adapter in a slot, and one that is merged.

An engine takes half a minute to start.
"""
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name, family in BY_NAME.items()
    if family.vllm_lora
]


@pytest.mark.parametrize("name", NAMES)
def test_the_adapter_passes_its_canary_in_vllm(name: str, tmp_path: Path) -> None:
    family = BY_NAME[name]
    trained = train_tiny(tmp_path, family, lora_of(family), **vllm_sizes(family))
    assert canary_error(replace(trained.world, engine=engine_of(family)), trained) < 2e-3


def test_weights_of_full_fine_tuning_pass_their_canary_in_vllm(tmp_path: Path) -> None:
    family = BY_NAME["llama"]
    trained = train_tiny(tmp_path, family, None, learning_rate=LEARNING_RATE, **vllm_sizes(family))
    assert weights_canary_error(replace(trained.world, engine=engine_of(family)), trained) < 2e-3
