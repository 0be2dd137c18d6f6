"""Training: one program, `python -m workloads.train TASK`."""
