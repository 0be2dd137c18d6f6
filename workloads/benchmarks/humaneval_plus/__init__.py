"""HumanEval+ v0.1.10: 164 Python functions to complete, with evalplus's tests."""
