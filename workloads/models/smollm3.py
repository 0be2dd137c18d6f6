"""SmolLM3."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="smollm3",
    title="SmolLM3",
    architecture="SmolLM3ForCausalLM",
    model_type="smollm3",
    tiny={"pad_token_id": None, "no_rope_layers": [1, 0]},
)
