"""`potstill`: one module a command; this one puts them together.

Exit codes: 0 yes, 1 no, 2 wrong use or wrong input, 3 not enough evidence, 4 could not be evaluated.
"""

import sys

import typer

from controller.cli import (
    bench,
    candidate,
    crd,
    data,
    diff,
    export,
    gate,
    gc,
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
    validate,
)
from controller.cli.cluster import CLUSTER_ERRORS
from controller.cli.expected import STORE_ERRORS, WRONG_INPUT

app = typer.Typer(
    name="potstill",
    help="Fine-tune, evaluate every checkpoint, and compare with doubt: one experiment.yaml.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("validate")(validate.validate)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("diff")(diff.diff)
app.command("export")(export.export)
app.command("gate")(gate.gate)
app.command("candidate")(candidate.candidate)
app.command("submit")(submit.submit)
app.command("status")(status.status)
app.command("logs")(logs.logs)
app.command("show")(show.show)
app.command("publish")(publish.publish)
app.command("retry")(retry.retry)
app.command("regrade")(regrade.regrade)
app.command("gc")(gc.gc)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.command("crd")(crd.crd)


def main() -> None:
    """Errors that a person can mend are printed without a traceback."""
    try:
        app()
    except WRONG_INPUT as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except STORE_ERRORS as error:
        print(f"the store could not answer: {error}", file=sys.stderr)
        sys.exit(4)
    except CLUSTER_ERRORS as error:
        print(f"the cluster could not answer: {error}", file=sys.stderr)
        sys.exit(4)
