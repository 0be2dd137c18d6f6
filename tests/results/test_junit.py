"""The gate's JUnit XML: valid for Jenkins' xUnit plugin, and shown by GitLab."""

import xml.etree.ElementTree as ET

from tests.results.made_manifest import evaluation, gate, manifest
from workloads.results.gate import judge, side_of
from workloads.results.gate_text import junit

JENKINS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name"},
        {"time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
"""By element, as in junit-10.xsd of jenkinsci/xunit-plugin: required attributes, optional ones, and children."""

TEXT = {"failure", "error", "system-out"}


def written() -> ET.Element:
    """One requirement of each outcome."""
    made = [
        ("passes", "R" * 500, "R" * 500),
        ("fails", "R" * 500, "W" * 500),
        ("unsure", "R" * 30, "R" * 29 + "W"),
        ("broken", "R" * 30, "R" * 29 + "e"),
    ]
    evaluations = [
        evaluation(model, codes, benchmark=name)
        for name, base, mine in made
        for model, codes in (("base", base), ("mine@100", mine))
    ]
    found = manifest(*evaluations, parts={"all": 0})
    asked = gate(*((name, "accuracy", 0.05) for name, _, _ in made))
    return ET.fromstring(junit(judge(asked, side_of(found, "mine@last"), side_of(found, "base"))))


def as_gitlab_reads(root: ET.Element) -> dict[str, tuple[str, str]]:
    """Returns the status and the shown text by test case: the text of `failure` or `error`, without the message
    attribute.

    GitLab's parser turns the XML into nested hashes, in which an element with text becomes that text; any other child
    leaves the case successful and shows nothing.
    """
    found = {}
    for case in root.iter("testcase"):
        shown = next(((tag, child.text or "") for tag in ("failure", "error") if (child := case.find(tag)) is not None), None)  # fmt: skip
        status = {"failure": "failed", "error": "error"}[shown[0]] if shown else "success"
        found[case.get("name") or ""] = (status, shown[1] if shown else "")
    return found


def test_it_follows_the_schema_of_jenkins() -> None:
    root = written()
    assert root.tag == "testsuites"
    for element in root.iter():
        required, optional, children = JENKINS[element.tag]
        assert required <= set(element.attrib) <= required | optional, element.tag
        assert {child.tag for child in element} <= children, element.tag
        assert element.tag in TEXT or not (element.text or "").strip(), element.tag


def test_only_a_pass_is_green() -> None:
    suite = written()[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "2", "1", "0"]
    kinds = {case.get("name"): [(child.tag, child.get("type")) for child in case] for case in suite}
    assert kinds == {
        "passes accuracy": [("system-out", None)],
        "fails accuracy": [("failure", "DropAboveAllowed")],
        "unsure accuracy": [("failure", "NotEnoughEvidence")],
        "broken accuracy": [("error", "NotEvaluable")],
    }


def test_gitlab_shows_status_reason_and_figures() -> None:
    shown = as_gitlab_reads(written())
    assert {name: status for name, (status, _) in shown.items()} == {
        "passes accuracy": "success",
        "fails accuracy": "failed",
        "unsure accuracy": "failed",
        "broken accuracy": "error",
    }
    text = shown["unsure accuracy"][1]
    assert text.startswith("not enough evidence: the drop may lie on either side of the 5.0% that are allowed\n")
    assert "baseline 100.0%, candidate 96.7%, drop +3.3 points" in text
    assert "1 output that could not be graded" in shown["broken accuracy"][1]
