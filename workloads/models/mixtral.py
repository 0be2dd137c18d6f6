"""Mixtral: its files name the experts' projections w1 (gate), w3 (up) and w2 (down)."""

from workloads.models.base import ExpertNames, ModelFamily

FAMILY = ModelFamily(
    name="mixtral",
    title="Mixtral",
    architecture="MixtralForCausalLM",
    model_type="mixtral",
    experts=ExpertNames(saved="block_sparse_moe.experts", gate="w1", up="w3", down="w2"),
    tiny={"num_local_experts": 4, "num_experts_per_tok": 2},
)
