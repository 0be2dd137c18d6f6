"""Checking servers: comparisons in a child process that can be killed."""
