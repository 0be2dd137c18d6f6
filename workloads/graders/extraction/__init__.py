"""Finds the answer in an output, and whether the output is complete."""
