"""Results for other trackers: W&B, MLflow, TensorBoard. From records, after the fact: no trainer knows of it."""
