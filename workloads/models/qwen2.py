"""Qwen2 and Qwen2.5."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="qwen2",
    title="Qwen2 and Qwen2.5",
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
)
