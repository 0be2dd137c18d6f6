"""OLMo 3."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="olmo3",
    title="OLMo 3",
    architecture="Olmo3ForCausalLM",
    model_type="olmo3",
    tiny={"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
)
