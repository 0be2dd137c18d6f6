"""Checking servers run comparisons in a child process that can be killed."""
