"""The report: a manifest as a page, as Markdown and as CSV. `python -m workloads.report TASK`."""
