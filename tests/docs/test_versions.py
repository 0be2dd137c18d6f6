"""Numbers that README and docs quote from perf/results were measured with the shipped versions, or the text says
otherwise.
"""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PACKAGES = ("torch", "vllm", "triton", "transformers")
OLDER = "older versions"
"""A section that quotes results of other versions (or a section around it) contains these words."""


@cache
def locked() -> dict[str, str]:
    lock = tomllib.loads((REPOSITORY / "uv.lock").read_text())
    return {package["name"]: package["version"] for package in lock["package"] if package["name"] in PACKAGES}


def measured(text: str) -> dict[str, set[str]]:
    """Versions by package, as the programs in perf/ and tests/gpu write them to their results."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(rf'\\?"({"|".join(PACKAGES)})\\?": \\?"([0-9][^"+\\]*)', text):
        found.setdefault(name, set()).add(version)
    return found


def quoted(text: str) -> set[Path]:
    """The files of perf/results that a text names, or that lie in a folder which it names."""
    names = re.findall(r"perf/results/([\w./-]*\w)", text)
    places = [REPOSITORY / "perf" / "results" / name for name in names]
    return {path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()}


def sections(text: str) -> list[tuple[str, str]]:
    """Each section's own text, and the same with the text of the sections around it."""
    found: list[tuple[str, str]] = []
    around: list[tuple[int, str]] = []
    for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        level = len(part) - len(part.lstrip("#"))
        around = [(above, kept) for above, kept in around if above < level]
        around.append((level, part))
        found.append((part, "".join(kept for _, kept in around)))
    return found


def differing(section: str, versions: dict[str, str]) -> dict[str, dict[str, set[str]]]:
    found = {}
    for path in quoted(section):
        others = {name: seen - {versions[name]} for name, seen in measured(path.read_text()).items()}
        if any(others.values()):
            found[str(path.relative_to(REPOSITORY))] = {name: seen for name, seen in others.items() if seen}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_results_of_other_versions_than_the_lock_are_marked(page: Path) -> None:
    versions = locked()
    unmarked = [
        (own.splitlines()[0], found)
        for own, whole in sections(page.read_text())
        if (found := differing(own, versions)) and OLDER not in whole.lower()
    ]
    assert not unmarked, f'say "{OLDER}" in the section, or measure again: {unmarked}'


def test_a_difference_is_found() -> None:
    """The test detects the results of an older vLLM in the repository."""
    section = "See `perf/results/evaluate-h200/evaluate.jsonl`."
    assert differing(section, locked())["perf/results/evaluate-h200/evaluate.jsonl"]["vllm"] == {"0.26.0"}
