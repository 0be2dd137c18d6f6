"""A custom benchmark's completion rule: a regular expression in RE2, which takes time linear in the text.

Outputs are hostile: with Python's `re` one line of them can keep an expression such as `(a*)*b` busy forever. RE2 has
no lookaround and no backreferences (https://github.com/google/re2/wiki/Syntax), and an expression that needs them is
refused before anything runs.
"""

from typing import Any

import re2

LARGEST_PROGRAM_BYTES = 1 << 18
"""The largest size of a compiled expression. It limits the cost of each character of a text."""


class PatternError(ValueError):
    """The expression cannot be used. The message says why, without naming it."""


def compile_pattern(source: str) -> Any:
    """Returns a compiled expression of RE2 (`search`, `groupdict`, as in `re`). Raises PatternError."""
    options = re2.Options()
    options.max_mem = LARGEST_PROGRAM_BYTES
    options.log_errors = False
    try:
        return re2.compile(source, options=options)
    except UnicodeEncodeError:
        raise PatternError("is not text: it holds half of a surrogate pair") from None
    except re2.error as e:
        reason = e.args[0].decode(errors="replace") if e.args and isinstance(e.args[0], bytes) else str(e)
        message = f"is not a regular expression of RE2 ({reason}): it has no lookaround and no backreferences"
        raise PatternError(message) from e
