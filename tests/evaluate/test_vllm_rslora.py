"""vLLM's own packing of experts' adapters keeps rsLoRA's scale, alpha / sqrt(rank): vllm-project/vllm#55545."""

import pytest
import torch

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")


@pytest.mark.parametrize(("stabilized", "scale"), [(True, 8.0), (False, 2.0)])
def test_an_experts_adapter_is_scaled_as_peft_scales_it(stabilized: bool, scale: float) -> None:
    from vllm.lora.lora_weights import LoRALayerWeights, PackedLoRALayerWeights
    from vllm.lora.peft_helper import PEFTHelper

    config = {"r": 16, "lora_alpha": 32, "target_modules": ["gate_proj"], "use_rslora": stabilized}
    experts = []
    for expert in range(4):
        for name in ("gate_proj", "down_proj", "up_proj"):
            layer = LoRALayerWeights.from_config(f"mlp.experts.{expert}.{name}", PEFTHelper.from_dict(config))
            layer.lora_a, layer.lora_b = torch.ones(16, 8), torch.ones(8, 16)
            experts.append(layer)
    packed = PackedLoRALayerWeights.pack_moe(experts, "mlp.experts").optimize()
    assert all(bool((factor == scale).all()) for factor in packed.lora_b)
