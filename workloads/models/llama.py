"""Llama 2 and 3."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="llama",
    title="Llama 2 and 3",
    architecture="LlamaForCausalLM",
    model_type="llama",
)
