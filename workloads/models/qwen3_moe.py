"""Qwen3 mixtures of experts."""

from workloads.models.base import ExpertNames, ModelFamily

FAMILY = ModelFamily(
    name="qwen3_moe",
    title="Qwen3 mixtures of experts",
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    experts=ExpertNames(),
    fast=True,
    tiny={"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
)
