"""The command `potstill`. Each subcommand has a module; this module registers them.

Exit codes: 0 yes, 1 no, 2 wrong use or wrong input, 3 not enough evidence, 4 could not be evaluated.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from controller.cli import (
    bench,
    candidate,
    crd,
    data,
    diff,
    doctor,
    export,
    fetch,
    gate,
    gc,
    grade,
    init,
    logs,
    plan,
    publish,
    regrade,
    report,
    retry,
    run,
    show,
    status,
    submit,
    ui,
    validate,
)
from controller.cli import list as list_command
from controller.cli.cluster import CLUSTER_ERRORS
from controller.cli.expected import STORE_ERRORS, WRONG_INPUT
from controller.cli.json_output import ReadingCommand
from workloads.untrusted import printable

app = typer.Typer(
    name="potstill",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"potstill {version('potstill')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Fine-tune, evaluate every checkpoint, and compare, with confidence intervals: one experiment.yaml."""


app.command("doctor", cls=ReadingCommand)(doctor.doctor)
app.command("init")(init.init)
app.command("validate", cls=ReadingCommand)(validate.validate)
app.command("plan", cls=ReadingCommand)(plan.plan)
app.command("run")(run.run)
app.command("list", cls=ReadingCommand)(list_command.list_experiments)
app.command("ui")(ui.ui)
app.command("report")(report.report)
app.command("diff", cls=ReadingCommand)(diff.diff)
app.command("export")(export.export)
app.command("gate", cls=ReadingCommand)(gate.gate)
app.command("candidate")(candidate.candidate)
app.command("submit")(submit.submit)
app.command("status", cls=ReadingCommand)(status.status)
app.command("logs", cls=ReadingCommand)(logs.logs)
app.command("show", cls=ReadingCommand)(show.show)
app.command("publish")(publish.publish)
app.command("fetch")(fetch.fetch)
app.command("retry")(retry.retry)
app.command("regrade")(regrade.regrade)
app.command("gc", cls=ReadingCommand)(gc.gc)
app.command("grade", cls=ReadingCommand)(grade.grade)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.command("crd")(crd.crd)


def main() -> None:
    """Prints errors that the user can correct without a traceback."""
    try:
        app()
    except WRONG_INPUT as error:
        _complain(str(error))
        sys.exit(2)
    except STORE_ERRORS as error:
        _complain(f"the store could not answer: {error}")
        sys.exit(4)
    except CLUSTER_ERRORS as error:
        _complain(f"the cluster could not answer: {error}")
        sys.exit(4)


def _complain(message: str) -> None:
    """Error messages quote users' files and objects in stores."""
    print(printable(message), file=sys.stderr)
