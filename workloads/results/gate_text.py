"""A gate's result for machines and people: JUnit XML, a Markdown summary for a CI job's page, JSON."""

import xml.etree.ElementTree as ET
from dataclasses import asdict
from typing import Any

from workloads.contract.model import canonical_json
from workloads.results.gate import GateResult, RequirementResult
from workloads.untrusted import encodable, markdown, one_line, printable

WORDS = {
    "pass": "pass",
    "fail": "fail",
    "not_enough_evidence": "not enough evidence",
    "not_evaluable": "could not be evaluated",
}


def gate_json(result: GateResult) -> bytes:
    """Everything in the result, canonical, with a final newline."""
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
    """A test case per requirement: fail is a failure, could not be evaluated an error, not enough evidence skipped."""
    counts = {outcome: sum(r.outcome == outcome for r in result.requirements) for outcome in WORDS}
    suite = ET.Element(
        "testsuite",
        name=printable(f"potstill gate {result.candidate}"),
        tests=str(len(result.requirements)),
        failures=str(counts["fail"]),
        errors=str(counts["not_evaluable"]),
        skipped=str(counts["not_enough_evidence"]),
    )
    for item in result.requirements:
        case = ET.SubElement(suite, "testcase", classname="potstill.gate", name=printable(item.name))
        tag = {"fail": "failure", "not_evaluable": "error", "not_enough_evidence": "skipped"}.get(item.outcome)
        if tag is not None:
            ET.SubElement(case, tag, message=printable(f"{WORDS[item.outcome]}: {item.message}"))
        ET.SubElement(case, "system-out").text = printable(_figures(item))
    root = ET.Element("testsuites")
    root.append(suite)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def gate_markdown(result: GateResult) -> str:
    """For a CI job's page or a comment on a change."""
    compared = (
        f"`{_code(result.candidate)}` against `{_code(result.baseline)}` at {result.budget_tokens:,} tokens, "
        "on the same problems; "
        f"one-sided bounds at {1 - result.alpha:.0%}, requirements share the error (Holm)."
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
    """A model's name between backticks."""
    return one_line(name).replace("`", "'")


def _noise(item: RequirementResult) -> str:
    if item.discordance is None:
        return ""
    said = f" The two differ on {item.discordance:.1%} of {item.n} problems"
    again = "" if item.noise is None else f"; the baseline differs from itself on {item.noise:.1%} when generated again"
    return f"{said}{again}."


def _figures(item: RequirementResult) -> str:
    if item.drop is None:
        return item.message
    drop = f"drop {_points(item.drop)}, {_points(item.low)} to {_points(item.high)}, n = {item.n}"
    return (
        f"baseline {_share(item.baseline)}, candidate {_share(item.candidate)}, {drop}. {item.message}.{_noise(item)}"
    )


def _points(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:+.1f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
