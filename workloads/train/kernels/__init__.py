"""The fast operators of a training step: LoRA layers and fused operators, each with a plain PyTorch reference."""
