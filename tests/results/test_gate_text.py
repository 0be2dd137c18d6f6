"""The gate's Markdown is made for comments: quoted text stays text."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.results.made_manifest import evaluation, gate, manifest
from workloads.results.gate import judge, side_of
from workloads.results.gate_text import gate_json, gate_markdown, junit

HOSTILE = "@team `|` <img src=x> [win](https://example.org)\n# Pass &amp; go"


def test_a_reason_from_a_candidates_files_is_shown_as_text() -> None:
    failed = evaluation("mine@100", "R", state="failed", reason=HOSTILE)
    found = manifest(evaluation("base", "R"), failed)
    text = gate_markdown(
        judge(gate(("math-500", "accuracy", 0.05)), side_of(found, "mine@100"), side_of(found, "base"))
    )
    shown = text[text.index("mine@100 on math-500/all is failed") :]
    assert "@team" not in shown
    assert "\\<img src=x\\> \\[win\\](https\\://example.org) # Pass \\&amp; go" in shown


@pytest.mark.parametrize("reason", ["killed \x1b[31mboom", "NUL \0", "none \uffff", "half \ud800", "]]> <a>&amp;"])
def test_junit_and_json_are_well_formed_whatever_a_reason_holds(reason: str) -> None:
    asked = gate(("math-500", "accuracy", 0.05))
    found = manifest(evaluation("base", "R"), evaluation("mine@100", "R", state="failed", reason="away"))
    result = judge(asked, side_of(found, "mine@100"), side_of(found, "base"))
    hostile = replace(result, requirements=tuple(replace(item, message=reason) for item in result.requirements))
    case = ET.fromstring(junit(hostile)).find("testsuite/testcase")
    assert case is not None
    error, figures = case.find("error"), case.findtext("system-out")
    assert error is not None
    shown = error.get("message", "") + (figures or "")
    assert "\x1b" not in shown
    assert json.loads(gate_json(hostile))["requirements"][0]["message"]
