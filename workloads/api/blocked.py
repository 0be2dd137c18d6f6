"""The reason of an evaluation whose run failed. It names the run; the cause is in the run's own line."""

import re

_PATTERN = re.compile(r"blocked by run (\S+) \(failed\)")


def blocked_by_run(run: str) -> str:
    """Returns the reason, for instance: blocked by run math_truncate (failed)."""
    return f"blocked by run {run} (failed)"


def blocking_run(reason: str | None) -> str | None:
    """Returns the name of the run in a reason of `blocked_by_run`; None for any other reason."""
    found = _PATTERN.fullmatch(reason or "")
    return found[1] if found else None
