"""Qwen3."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="qwen3",
    title="Qwen3",
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    fast=True,
    tiny={"head_dim": 16},
)
