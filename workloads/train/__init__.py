"""LoRA training: one program, `python -m workloads.train TASK`."""
