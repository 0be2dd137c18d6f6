"""Exports results to other trackers: W&B, MLflow, TensorBoard.

They are made from records, independently of trainers.
"""
