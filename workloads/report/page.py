"""The report as one page."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from workloads.contract.manifest import Manifest
from workloads.report.text import COLUMNS, name_of, note_of
from workloads.results.tables import tables
from workloads.store import Store


def page(manifest: Manifest, store: Store) -> str:  # noqa: ARG001
    """One self-contained HTML file. Everything in it is escaped: outputs are hostile text."""
    environment = Environment(
        loader=PackageLoader("workloads.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("index.html.j2")
    return template.render(
        manifest=manifest, tables=tables(manifest), columns=COLUMNS, name_of=name_of, note_of=note_of
    )
