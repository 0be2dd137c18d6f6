"""Functions for the programs that prepare a benchmark's file. They run once per version of the data."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def stratified(strata: dict[tuple[Any, ...], list[str]], size: int) -> list[str]:
    """Returns `size` ids, sorted.

    Each stratum has its share (largest remainders); within it the smallest SHA-256 come first.
    """
    total = sum(len(ids) for ids in strata.values())
    exact = {key: size * len(ids) / total for key, ids in strata.items()}
    counts = {key: int(share) for key, share in exact.items()}
    by_remainder = sorted(strata, key=lambda key: (counts[key] - exact[key], str(key)))
    for key in by_remainder[: size - sum(counts.values())]:
        counts[key] += 1
    ordered = {key: sorted(ids, key=lambda i: hashlib.sha256(i.encode()).digest()) for key, ids in strata.items()}
    return sorted(i for key, ids in ordered.items() for i in ids[: counts[key]])


def as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as JSONL."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def expect(source: Path, found: str, known: str) -> None:
    """Exits if a published file's hash is not the known one."""
    if found != known:
        raise SystemExit(f"{source}: hash {found}, and the published file has {known}")


def write(path: Path, data: bytes, fast: Sequence[str]) -> None:
    """Writes the prepared file, and fast.txt beside it."""
    path.write_bytes(data)
    (path.parent / "fast.txt").write_text("".join(f"{problem_id}\n" for problem_id in fast))
    sys.stdout.write(f"{path.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}\n")
