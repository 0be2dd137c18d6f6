"""Gemma 2."""

from workloads.models.base import ModelFamily

FAMILY = ModelFamily(
    name="gemma2",
    title="Gemma 2",
    architecture="Gemma2ForCausalLM",
    model_type="gemma2",
    tiny={
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 24,
        "tie_word_embeddings": True,
        "final_logit_softcapping": 2.0,
        "attn_logit_softcapping": 2.0,
    },
)
