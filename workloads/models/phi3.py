"""Phi-3 and Phi-4: query, key and value are one projection, and so are gate and up."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="phi3",
    title="Phi-3 and Phi-4 (text)",
    architecture="Phi3ForCausalLM",
    model_type="phi3",
    attention=("qkv_proj", "o_proj"),
    feed_forward=("gate_up_proj", "down_proj"),
    fused_projections=True,
    tiny={"pad_token_id": None},
)
