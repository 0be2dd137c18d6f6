"""Granite 3."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="granite",
    title="Granite 3",
    architecture="GraniteForCausalLM",
    model_type="granite",
    tiny={"logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2},
)
