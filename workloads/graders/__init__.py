"""Graders: an output and a gold to a verdict."""
