"""Gemma 3 (text)."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="gemma3",
    title="Gemma 3 (text)",
    architecture="Gemma3ForCausalLM",
    model_type="gemma3_text",
    tiny={
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 24,
        "tie_word_embeddings": True,
        "layer_types": ["sliding_attention", "full_attention"],
    },
)
