"""What makes a training step fast: LoRA layers, fused operators, and a plain PyTorch reference beside each."""
