"""Conversion between text and token ids: the same code for the trainer, the evaluator and `potstill data show`.

No torch.
"""
