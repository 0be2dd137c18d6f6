"""Mistral."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="mistral",
    title="Mistral",
    architecture="MistralForCausalLM",
    model_type="mistral",
    tiny={"sliding_window": 24},
)
