"""Makes untrusted text (of a model, another trainer or a user's file) safe to display.

Every message that quotes such text passes one of these functions where it leaves Potstill: `printable` for terminals,
logs and XML, `markdown` for Markdown, `encodable` for JSON and other UTF-8 files.
"""

import re
import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SAFE_CONTROLS = frozenset("\n\t")
"""Control characters that `printable` leaves in a text."""
UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: controls (escape sequences), invisible marks (text that runs backwards), surrogates, characters
that are not assigned (XML 1.0 forbids U+FFFE and U+FFFF), line and paragraph separators.
"""

_SPECIAL = re.compile(r"([\\`*_~\[\]<>|&])")
_ADDRESS = re.compile(r"(?i)(https?|ftp):(?=//)|\bwww\.")
_MENTION = re.compile(r"(?<!\w)@|#(?=\d)")
_SURROGATES = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Returns the text with U+FFFD for each character that controls a terminal or that XML 1.0 does not allow.

    Lines and tabs stay. A rich table reads markup in plain strings: give it `Text(printable(text))`.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c if c in SAFE_CONTROLS or unicodedata.category(c) not in UNSAFE else REPLACEMENT for c in text)


def one_line(text: str, most: int | None = None) -> str:
    """`printable` with each run of white space as one space, cut to `most` characters."""
    line = " ".join(printable(text).split())
    return line if most is None or len(line) <= most else f"{line[: most - 3]}..."


def markdown(text: str) -> str:
    """Returns one line of Markdown that shows the text literally: it cannot begin or end a table cell, link, image,
    HTML or emphasis, and no person (@name), issue (#1) or address becomes a link.
    """
    escaped = _SPECIAL.sub(r"\\\1", one_line(text))
    escaped = _ADDRESS.sub(lambda found: f"{found.group()[:-1]}\\{found.group()[-1]}", escaped)
    return _MENTION.sub(lambda found: f"{found.group()}\u200b", escaped)


def encodable(text: str) -> str:
    """Returns the text with U+FFFD for each half of a surrogate pair, which UTF-8 cannot encode.

    JSON escapes the rest itself.
    """
    return _SURROGATES.sub(REPLACEMENT, text)
