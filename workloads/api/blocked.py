"""The reason of an evaluation whose run failed. It names the run, and the run's own line has the cause."""

import re

_PATTERN = re.compile(r"blocked by run (\S+) \(failed\)")


def blocked_by_run(run: str) -> str:
    """The reason, for instance: blocked by run math_truncate (failed)."""
    return f"blocked by run {run} (failed)"


def blocking_run(reason: str | None) -> str | None:
    """The name of the run in a reason that `blocked_by_run` made; None for any other reason."""
    found = _PATTERN.fullmatch(reason or "")
    return found[1] if found else None
