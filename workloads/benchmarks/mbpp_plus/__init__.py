"""MBPP+ v0.2.0: 378 small Python functions to write, with evalplus's tests."""
