"""The general trainer: any causal language model of transformers, LoRA by peft, the loss from the model's logits."""
