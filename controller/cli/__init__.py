"""`potstill`: one module a command; this one puts them together.

Exit codes: 0 yes, 1 no, 2 wrong use or wrong input, 3 not enough evidence, 4 could not be evaluated.
"""

import sys

import typer

from controller.cli import data, plan, publish, report, run, validate
from controller.spec.errors import SpecError
from workloads.store import StoreError

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
app.command("publish")(publish.publish)
app.add_typer(data.app, name="data")


def main() -> None:
    """Errors that a person can mend are printed without a traceback."""
    try:
        app()
    except SpecError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except StoreError as error:
        print(f"the store could not answer: {error}", file=sys.stderr)
        sys.exit(4)
