"""Makes the report's HTML page."""

import base64
import gzip
import hashlib
import json
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from workloads.api.manifest import Manifest
from workloads.report.breakdown_tables import breakdown_tables, length_table
from workloads.report.checkpoints import checkpoint_tables
from workloads.report.failures import progress
from workloads.report.output_browser import OutputPages
from workloads.report.overview import overview
from workloads.report.pairs import pair_table
from workloads.report.plots import Plot, plots
from workloads.report.protocol_table import protocol_tables
from workloads.report.sampled_tables import recipes_table, samples_table
from workloads.report.summary import summary
from workloads.results.conclusions import conclusions
from workloads.words import count_of

STATES = {
    "running": "running",
    "succeeded": "✓ succeeded",
    "partially_failed": "✗ partially failed",
    "failed": "✗ failed",
}
VERDICTS = {
    "supported": "✓ supported",
    "contradicted": "✗ contradicted",
    "mixed": "± mixed",
    "undecidable": "? undecided",
}


def page(manifest: Manifest, read: OutputPages) -> str:
    """Returns one self-contained HTML file that opens from disk and does not use the network.

    Everything in it is escaped. Its Content-Security-Policy allows no connection and only two scripts by their hashes:
    the page's own, and plotly.js, which is compressed and loaded after the text and the tables are shown.
    """
    environment = Environment(
        loader=PackageLoader("workloads.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, plotly = _asset("page.js"), get_plotlyjs()
    drawn = plots(manifest)
    concluded = conclusions(manifest)
    return environment.get_template("index.html.j2").render(
        manifest=manifest,
        states=STATES,
        verdicts=VERDICTS,
        meta=_meta(manifest, read),
        overview=overview(manifest, concluded),
        runs=concluded.runs,
        comparisons=concluded.comparisons,
        last_pairs=pair_table(manifest, concluded, "last"),
        best_pairs=pair_table(manifest, concluded, "best"),
        summary=summary(manifest, concluded),
        tables=checkpoint_tables(manifest, concluded),
        script_json=script_json,
        decided=[finding for finding in concluded.findings if finding.verdict != "undecidable"],
        undecided=[finding for finding in concluded.findings if finding.verdict == "undecidable"],
        breakdowns=breakdown_tables(manifest),
        lengths=length_table(manifest),
        sampled=[table for table in (samples_table(manifest), recipes_table(manifest)) if table is not None],
        facts=protocol_tables(manifest),
        plot_groups=_groups(drawn.drawn),
        folded_plots=[plot for plot in drawn.drawn if plot.folded],
        plot_notes=drawn.notes,
        reading=read,
        accepted=read.accepted,
        index=_index(manifest, read),
        plotly=base64.b64encode(gzip.compress(plotly.encode(), 9, mtime=0)).decode() if drawn.drawn else "",
        policy=policy(script, plotly),
        style=Markup(_asset("page.css")),  # noqa: S704 - the package's own file
        script=Markup(script),  # noqa: S704 - the package's own file
    )


def _meta(manifest: Manifest, read: OutputPages) -> list[str]:
    """Returns when it began, how long it took, and its numbers of runs and evaluations."""
    parts = []
    if read.accepted is not None:
        parts.append(f"{read.accepted.at:%d %b %Y, %H:%M} UTC")
        if (seconds := read.accepted.seconds) is not None:
            words = "last result after" if manifest.state == "running" else "took"
            parts.append(f"{words} {duration(seconds)}")
    runs = sum(run.role == "run" for run in manifest.runs)
    checkpoints = sum(model.kind == "checkpoint" for model in manifest.models)
    candidates = sum(model.kind == "candidate" for model in manifest.models)
    parts.append(f"base model {manifest.base_name}")
    parts += [count_of(number, noun) for number, noun in ((runs, "run"), (checkpoints, "checkpoint")) if number]
    parts += [count_of(candidates, "candidate")] if candidates else []
    parts.append(count_of(len(manifest.benchmarks), "benchmark"))
    return parts if manifest.state == "running" else [*parts, progress(manifest).text]


def duration(seconds: float) -> str:
    """Returns text such as 45 s, 7 min, 3 h 20 min, 2 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _groups(drawn: tuple[Plot, ...]) -> list[tuple[str, list[Plot]]]:
    """Returns plots by heading, in reading order, without folded ones."""
    shown = [plot for plot in drawn if not plot.folded]
    return [(name, [plot for plot in shown if plot.group == name]) for name in dict.fromkeys(p.group for p in shown)]


def policy(*scripts: str) -> str:
    """Returns a policy without network, forms and frames, with only these scripts."""
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("workloads.report") / "templates" / name).read_text(encoding="utf-8")


def _index(manifest: Manifest, read: OutputPages) -> str:
    """Returns the data for the page's script, as JSON."""
    models = {model.id: {"budget": model.budget_tokens} for model in manifest.models}
    index = {
        "models": models,
        "budgets": manifest.budgets,
        "outputs": [[chunk.id, chunk.model, chunk.benchmark] for chunk in read.chunks],
        "problems": {chunk.benchmark: chunk.id for chunk in read.problems},
    }
    return json.dumps(index)


def script_json(text: str) -> Markup:
    """Returns JSON that cannot end its script element: in JSON "<" occurs only in strings."""
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no "<" is left in it
