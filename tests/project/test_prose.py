"""The prose linter finds its phrases in all files, and the project has none of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.prose import ROOT, findings, main, phrases


def found(text: str) -> list[tuple[int, str]]:
    return [(item.line, item.text) for item in findings(text, phrases())]


def test_a_phrase_is_found_with_its_line_in_any_case_and_across_lines() -> None:
    assert found('"""Heeds it."""') == [(1, "Heeds")]
    assert found("a\n# what became\n# of it") == [(2, "what became # of")]
    assert found("text\n\nThe weights are nobody's.") == [(3, "nobody's")]


def test_words_that_only_begin_like_a_phrase_are_left_alone() -> None:
    assert found("headless, unheeding; he told from memory; nobody sees it") == []


def test_a_file_with_a_phrase_fails_and_says_what_to_write(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Fine.\nIt is nobody's.\n")
    done = subprocess.run([sys.executable, "-m", "scripts.prose", page], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (
        1,
        f'{page}:2: "nobody\'s": write none, no owner, not a fault of the task\n',
    )


@pytest.mark.slow
def test_the_project_has_none_of_the_phrases() -> None:
    assert main([]) == 0
