"""Benchmarks: one folder each, a registry of those known by name, and users' JSONL."""
