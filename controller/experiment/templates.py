"""Resolves templates by name, by file or by text to the content that goes into a digest."""

import json
import math
from collections.abc import Mapping
from pathlib import Path as FilePath
from types import MappingProxyType

from controller.experiment.errors import Path, SpecError, SpecProblem
from controller.experiment.files import local_path
from workloads.api.units import Template, TemplateVariable


def template_of(
    name: str,
    text: str | None,
    system: str | None,
    directory: FilePath,
    place: Path,
    variables: Mapping[str, str] = MappingProxyType({}),
    date: str | None = None,
) -> Template:
    """Returns the template: `text` if there is one; base, chatml or plain by name; else `name` is the path of a Jinja
    file.

    `variables` and `date` are for base and Jinja. The text of a variable becomes a number or boolean if it is one in
    JSON. Raises SpecError.
    """
    if text is None and name in ("chatml", "plain"):
        if variables or date:
            field = "templateVariables" if variables else "templateDate"
            raise SpecError("experiment", [SpecProblem((*place, field), f"is for templates in Jinja; {name} has none")])
        return Template(name="chatml" if name == "chatml" else "plain", system=system)
    found = tuple(TemplateVariable(name=key, value=_json(value)) for key, value in sorted(variables.items()))
    if text is None and name == "base":
        return Template(name="base", system=system, variables=found, date=date)
    if text is None:
        path = local_path(name, (*place, "template"), directory)
        if not path.is_file():
            message = f"{name!r} is not base, chatml or plain, and there is no file {path}"
            raise SpecError("experiment", [SpecProblem((*place, "template"), message)])
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(
                "experiment", [SpecProblem((*place, "template"), f"{path} cannot be read: {error}")]
            ) from error
    return Template(name="file", text=text, system=system, variables=found, date=date)


def _json(value: str) -> str:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = value
    finite = isinstance(parsed, bool | int) or (isinstance(parsed, float) and math.isfinite(parsed))
    return json.dumps(parsed if finite else value)
