"""Formats a gate's result: JUnit XML, a Markdown summary for a CI job's page, JSON."""

import xml.etree.ElementTree as ET
from dataclasses import asdict
from typing import Any

from workloads.api.model import canonical_json
from workloads.results.gate import GateResult, RequirementResult
from workloads.untrusted import encodable, markdown, one_line, printable
from workloads.words import count_of

WORDS = {
    "pass": "pass",
    "fail": "fail",
    "not_enough_evidence": "not enough evidence",
    "not_evaluable": "could not be evaluated",
}


JUNIT = {
    "fail": ("failure", "DropAboveAllowed"),
    "not_enough_evidence": ("failure", "NotEnoughEvidence"),
    "not_evaluable": ("error", "NotEvaluable"),
}
"""By outcome: the element and its type attribute."""


def gate_json(result: GateResult) -> bytes:
    """Returns the whole result as canonical JSON with a final newline."""
    requirements = [
        {key: value for key, value in asdict(item).items() if key != "requirement"}
        | item.requirement.model_dump(mode="json")
        for item in result.requirements
    ]
    whole = asdict(result) | {"requirements": requirements, "exit_code": int(result.exit_code), "schema_version": 1}
    return canonical_json(_encodable(whole)) + b"\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return encodable(value) if isinstance(value, str) else value


def junit(result: GateResult) -> bytes:
    """Returns a test case per requirement, in the schema of Jenkins' xUnit plugin.

    Only a pass is green: a failed requirement and one without enough evidence are failures with different types; one
    that could not be evaluated is an error. The numbers are the element's text, which GitLab and Jenkins show.
    """
    counts = {outcome: sum(r.outcome == outcome for r in result.requirements) for outcome in WORDS}
    suite = ET.Element(
        "testsuite",
        name=printable(f"potstill gate {result.candidate}"),
        tests=str(len(result.requirements)),
        failures=str(counts["fail"] + counts["not_enough_evidence"]),
        errors=str(counts["not_evaluable"]),
        skipped="0",
    )
    for item in result.requirements:
        case = ET.SubElement(suite, "testcase", classname="potstill.gate", name=printable(item.name))
        if (element := JUNIT.get(item.outcome)) is None:
            ET.SubElement(case, "system-out").text = printable(_figures(item))
            continue
        tag, kind = element
        message = printable(f"{WORDS[item.outcome]}: {item.message}")
        figures = "" if item.drop is None else f"\n{printable(_figures(item))}"
        ET.SubElement(case, tag, type=kind, message=message).text = message + figures
    root = ET.Element("testsuites")
    root.append(suite)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def gate_markdown(result: GateResult) -> str:
    """Returns Markdown for a CI job's page or a comment on a change."""
    compared = (
        f"`{_code(result.candidate)}` against `{_code(result.baseline)}` at {result.budget_tokens:,} tokens, "
        "on the same problems. "
        f"A requirement passes if the drop's upper bound ({1 - result.alpha:.0%}, one-sided) is below what is allowed "
        "and fails if its lower bound is above; lower bounds share the error (Holm), each at the level given below."
    )
    lines = [
        f"## Potstill gate: {WORDS[result.outcome]}",
        "",
        compared,
        "",
        "| Requirement | Baseline | Candidate | Drop (bounds) | Allowed | n | Outcome |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_line(item) for item in result.requirements),
        "",
        *(f"- {markdown(item.name)}: {markdown(item.message)}.{_noise(item)}" for item in result.requirements),
    ]
    return "\n".join(lines) + "\n"


def _line(item: RequirementResult) -> str:
    drop = "-" if item.drop is None else f"{_points(item.drop)} ({_points(item.low)} to {_points(item.high)})"
    cells = [item.name, _share(item.baseline), _share(item.candidate), drop]
    cells += [f"{item.requirement.max_drop:.1%}", str(item.n), WORDS[item.outcome]]
    return "| " + " | ".join(markdown(cell) for cell in cells) + " |"


def _code(name: str) -> str:
    """Returns a model's name in backticks."""
    return one_line(name).replace("`", "'")


def _noise(item: RequirementResult) -> str:
    if item.discordance is None:
        return ""
    outputs = f", {item.outputs_per_problem} outputs each" if item.outputs_per_problem > 1 else ""
    parts = [f" The two differ on {item.discordance:.1%} of {count_of(item.n, 'problem')}{outputs}"]
    if item.noise is not None:
        parts.append(f"the baseline differs from itself on {item.noise:.1%} when generated again")
    if item.left_out:
        parts.append(f"{item.left_out} problems that only one of the two was asked are left out")
    if item.fail_alpha is not None:
        parts.append(f"the lower bound is at {1 - item.fail_alpha:.1%}")
    return "; ".join(parts) + "."


def _figures(item: RequirementResult) -> str:
    if item.drop is None:
        return item.message
    drop = f"drop {_points(item.drop)} points, {_points(item.low)} to {_points(item.high)}, n = {item.n}"
    allowed = f"allowed {item.requirement.max_drop:.1%}"
    return (
        f"baseline {_share(item.baseline)}, candidate {_share(item.candidate)}, {drop}, {allowed}. "
        f"{item.message}.{_noise(item)}"
    )


def _points(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:+.1f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
