"""The report of a manifest: HTML page, Markdown and CSV. `python -m workloads.report TASK`."""
