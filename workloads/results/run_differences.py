"""The fields of the experiment file in which two runs differ, and a short label: learningRate 1e-3 / 5e-3. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from workloads.api.manifest import Manifest, ManifestRun
from workloads.api.units import TrainInputs

IMPLIED = {"type", "base_content", "data_content", "checkpoints", "lora", "template", "columns", "epoch", "numerics"}
"""Fields of TrainInputs that are compared in another way, or that are equal in the whole experiment."""


@dataclass(frozen=True)
class FieldDifference:
    """`field`: the name in the experiment file. A value is None if the run does not state it."""

    field: str
    first: JsonValue
    second: JsonValue

    def __str__(self) -> str:
        """Returns text such as: learningRate 1e-3 / 5e-3."""
        return f"{self.field} {value_text(self.first)} / {value_text(self.second)}"


def run_differences(manifest: Manifest, first: ManifestRun, second: ManifestRun) -> tuple[FieldDifference, ...]:
    """Returns differences in the order of training's fields; empty if the two runs have the same training."""
    ours, theirs = (dict(_fields(manifest, run)) for run in (first, second))
    names = dict.fromkeys((*ours, *theirs))
    return tuple(
        FieldDifference(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)
    )


def differences_text(differences: tuple[FieldDifference, ...]) -> str:
    """Returns text such as: learningRate 1e-3 / 5e-3, seed 1 / 2."""
    return ", ".join(map(str, differences)) or "nothing in the experiment file"


def value_text(value: JsonValue) -> str:
    """Returns 1e-3 for 0.001, 2,048 for 2048, attention+experts for a list, - for a field that is not stated."""
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:,}"
        case float():
            return _number(value)
        case list():
            return "+".join(map(value_text, value))
        case str():
            return value if len(value) <= 40 else value[:37] + "..."
        case _:
            return str(value)


def _number(value: float) -> str:
    if value == 0 or 0.01 <= abs(value) < 1e6:
        return f"{value:g}"
    mantissa, exponent = f"{value:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _fields(manifest: Manifest, run: ManifestRun) -> Iterator[tuple[str, JsonValue]]:
    inputs = run.inputs
    if not isinstance(inputs, TrainInputs):
        yield "source", f"{run.name}, not trained here"
    else:
        yield "data", _data(manifest, run, inputs)
        yield "method", inputs.type
        own = inputs.model_dump(mode="json", by_alias=True, exclude=IMPLIED)
        yield from own.items()
        yield "checkpointEverySamples", inputs.checkpoints[0] if inputs.checkpoints else None
        lora = inputs.lora.model_dump(mode="json", by_alias=True) if inputs.lora is not None else {}
        yield from ((f"lora.{name}", value) for name, value in lora.items())
        yield "template", inputs.template.name
        yield "templateText", inputs.template.text
        yield "system", inputs.template.system
        yield "columns", f"{inputs.columns.prompt}, {inputs.columns.response}"
    model = next((model for model in manifest.models if model.run == run.name), None)
    if model is not None:
        yield "thinking", model.thinking


def _data(manifest: Manifest, run: ManifestRun, inputs: TrainInputs) -> str:
    """Returns the name of the data set. Data sets with the same content get the first name that a run gives them."""
    named = (
        other.data_name
        for other in manifest.runs
        if isinstance(other.inputs, TrainInputs) and other.inputs.data_content == inputs.data_content
    )
    return next((name for name in named if name), None) or run.data_name or f"sha256:{inputs.data_content[:12]}"
