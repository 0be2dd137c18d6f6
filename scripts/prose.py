"""Finds phrases that scripts/prose.toml lists: `python -m scripts.prose [FILE ...]`, by default in all tracked files.

Prints file, line, the phrase and what to write. Exits 1 if there is any.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = ROOT / "scripts" / "prose.toml"
SUFFIXES = frozenset({".cff", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"})


@dataclass(frozen=True)
class Phrase:
    """`find` matches across line breaks, comment signs and indentation. `write` says what to write in its place."""

    find: re.Pattern[str]
    write: str


@dataclass(frozen=True)
class Finding:
    """`line` counts from 1."""

    line: int
    text: str
    write: str


def phrases(rules: Path = RULES) -> tuple[Phrase, ...]:
    """The phrases of a rules file. Raises tomllib.TOMLDecodeError, KeyError and re.error for a wrong one."""
    stated = tomllib.loads(rules.read_text(encoding="utf-8"))["phrase"]
    return tuple(Phrase(_pattern(item["find"]), item["write"]) for item in stated)


def _pattern(find: str) -> re.Pattern[str]:
    across_lines = find.replace(" ", r"[\s#]+")
    return re.compile(rf"\b(?:{across_lines})(?!\w)", re.IGNORECASE)


def findings(text: str, wanted: Sequence[Phrase]) -> list[Finding]:
    """Every phrase in `text`, in the order of the lines."""
    found = [
        Finding(text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), phrase.write)
        for phrase in wanted
        for match in phrase.find.finditer(text)
    ]
    return sorted(found, key=lambda item: item.line)


def tracked_files() -> Iterator[Path]:
    """Text files of the project that git knows, without those that the rules exclude."""
    excluded = set(tomllib.loads(RULES.read_text(encoding="utf-8"))["exclude"])
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in SUFFIXES and name not in excluded and path.is_file():
            yield path


def main(arguments: list[str]) -> int:
    wanted, number = phrases(), 0
    for path in map(Path, arguments) if arguments else tracked_files():
        for found in findings(path.read_text(encoding="utf-8"), wanted):
            number += 1
            print(f"{path}:{found.line}: {found.text!r}: write {found.write}")
    return 1 if number else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
