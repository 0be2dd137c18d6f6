"""Templates by name, by file or written out, as the content that goes into a digest."""

from pathlib import Path as FilePath

from controller.experiment.errors import Path, SpecError, SpecProblem
from workloads.api.units import Template


def template_of(name: str, text: str | None, system: str | None, directory: FilePath, place: Path) -> Template:
    """`text` wins; then chatml and plain; else `name` is the path of a Jinja file. Raises SpecError."""
    if text is not None:
        return Template(name="file", text=text, system=system)
    if name == "chatml":
        return Template(name="chatml", system=system)
    if name == "plain":
        return Template(name="plain", system=system)
    path = (directory / name).resolve()
    if not path.is_file():
        message = f"{name!r} is not chatml or plain, and there is no file {path}"
        raise SpecError("experiment", [SpecProblem((*place, "template"), message)])
    return Template(name="file", text=path.read_text(encoding="utf-8"), system=system)
