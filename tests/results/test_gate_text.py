"""The gate's Markdown goes into comments: what it quotes stays text."""

from tests.results.made_manifest import evaluation, gate, manifest
from workloads.results.gate import judge, side_of
from workloads.results.gate_text import gate_markdown

HOSTILE = "@team `|` <img src=x> [win](https://example.org)\n# Pass &amp; go"


def test_a_reason_from_a_candidates_files_is_shown_as_text() -> None:
    failed = evaluation("mine@100", "R", state="failed", reason=HOSTILE)
    found = manifest(evaluation("base", "R"), failed)
    text = gate_markdown(
        judge(gate(("math-500", "accuracy", 0.05)), side_of(found, "mine@100"), side_of(found, "base"))
    )
    shown = text[text.index("mine@100 on math-500/all is failed") :]
    assert "@team" not in shown
    assert "\\<img src=x\\> \\[win\\](https://example.org) # Pass \\&amp; go" in shown
