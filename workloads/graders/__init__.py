"""Graders: they compare an output with a gold and return a verdict."""
