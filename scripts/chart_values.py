"""The table of a chart's values in its README.md, from the comments of its values.yaml."""

import re
from collections.abc import Iterator

import yaml

BEGIN, END = "<!-- values: written by scripts/generate.py from values.yaml -->", "<!-- end of values -->"
WHOLE = ("resources", "podSecurityContext", "securityContext", "startupProbe", "livenessProbe", "readinessProbe")
"""Mappings that Kubernetes defines: each is one value."""
KEY = re.compile(r"( *)([A-Za-z]+):(.*)$")


def with_values(readme: str, values: str) -> str:
    """The README with the table of `values`, values.yaml's text. Raises ValueError for a README without the markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks the markers {BEGIN} and {END}")
    rows = [f"| `{path}` | `{default}` | {text} |" for path, default, text in documented(values)]
    table = "\n".join(["| value | default | what it is |", "|---|---|---|", *rows])
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def documented(values: str) -> Iterator[tuple[str, str, str]]:
    """(path, default as YAML, description) of each value: of each key, but a mapping of WHOLE is one value."""
    lines = values.splitlines()
    path: list[str] = []
    comment: list[str] = []
    whole = None
    for number, line in enumerate(lines):
        key = KEY.match(line)
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
            continue
        if key is None:
            comment = []
            continue
        depth = len(key[1]) // 2
        if whole is not None and depth > whole:
            continue
        path, whole = [*path[:depth], key[2]], None
        block = _block(lines[number + 1 :], len(key[1]))
        rest = key[3].strip()
        if rest or not block or path[-1] in WHOLE:
            stated = (
                rest or yaml.safe_dump(yaml.safe_load("\n".join(block)), default_flow_style=True, width=1000).strip()
            )
            yield ".".join(path), stated.replace("|", "\\|"), " ".join(comment).replace("|", "\\|")
            whole = depth
        comment = []


def _block(lines: list[str], indent: int) -> list[str]:
    """The lines that are deeper than `indent`, up to the first that is not."""
    found = []
    for line in lines:
        if line.strip() and not line.strip().startswith("#") and len(line) - len(line.lstrip()) <= indent:
            break
        found.append(line)
    return [line for line in found if line.strip() and not line.strip().startswith("#")]
