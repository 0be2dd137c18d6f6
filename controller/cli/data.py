"""`potstill data show`: samples as the trainer sees them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from controller.cli.common import ExperimentFile, ProfileFile, frozen_from, wide_console
from controller.cli.json_output import JsonTo, ReadingCommand, shows_text, write_json
from controller.experiment.errors import SpecError, SpecProblem
from controller.terminal import shown
from controller.training_data import NotReadableHere, read_training_data
from workloads.api.units import TrainInputs
from workloads.data.rendered import RenderedSample, render
from workloads.untrusted import printable
from workloads.words import count_of

app = typer.Typer(help="Look at training data.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Look at training data."""


@app.command("show", cls=ReadingCommand)
def show(
    path: ExperimentFile,
    run: Annotated[str | None, typer.Option(help="Name of the run; default: the first.")] = None,
    rendered: Annotated[int, typer.Option(help="How many samples to show, in the order of training.")] = 3,
    profile: ProfileFile = None,
    json_to: JsonTo = None,
) -> None:
    """Show samples as the trainer sees them: with the template, cut at the limit, and with the supervised text marked.

    Example: potstill data show experiment.yaml --rendered 2
    """
    frozen = frozen_from(Path(path), profile)
    trained = [item for item in frozen.runs if isinstance(item.inputs, TrainInputs)]
    chosen = next((item for item in trained if run in (None, item.name)), None)
    if chosen is None:
        names = ", ".join(item.name for item in trained) or "none is trained here"
        raise SpecError(str(path), [SpecProblem(("spec", "runs"), f"no trained run {run or ''}; runs: {names}")])
    try:
        data, tokenizer = read_training_data(frozen, chosen)
    except NotReadableHere as error:
        raise SpecError(str(path), [SpecProblem(("spec", "data", chosen.data or ""), str(error))]) from error
    samples = tuple(render(data, tokenizer, rendered))
    body = {
        "run": chosen.name,
        "samples": len(data.order),
        "statistics": data.statistics,
        "warnings": data.warnings,
        "rendered": samples,
    }
    write_json(json_to, "data show", body)
    if not shows_text(json_to):
        return
    console = wide_console()
    rows = count_of(data.statistics.rows, "row")
    console.print(f"{chosen.name}: {count_of(len(data.order), 'sample')} from {data.statistics.kept:,} of {rows}")
    for warning in data.warnings:
        console.print(shown(f"warning: {warning}", "yellow"))
    for sample in samples:
        console.print(_marked(sample))


def _marked(sample: RenderedSample) -> Text:
    """Returns the text with supervised parts between ⟦ and ⟧, and green where the terminal has colour."""
    cut = f", cut from {sample.full_tokens}" if sample.truncated else ""
    text = Text(
        f"\n{sample.place}: {count_of(sample.tokens, 'token')}{cut}, {sample.supervised_tokens} supervised\n", "bold"
    )
    for piece, learned in sample.pieces:
        if not learned:
            text.append(printable(piece), "default")
            continue
        text.append("⟦", "bold green")
        text.append(printable(piece), "green")
        text.append("⟧", "bold green")
    return text
