"""Benchmarks: one folder each, a registry by name, and users' JSONL files."""
