"""OLMo 2."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="olmo2",
    title="OLMo 2",
    architecture="Olmo2ForCausalLM",
    model_type="olmo2",
)
