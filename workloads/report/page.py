"""The report as one page."""

import base64
import gzip
import hashlib
import json
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from workloads.contract.manifest import Manifest
from workloads.report.facts import facts
from workloads.report.plots import plots
from workloads.report.reader import Reading
from workloads.report.summary import summary
from workloads.report.text import COLUMNS, name_of, note_of
from workloads.results.conclusions import conclusions
from workloads.results.statistics import Share
from workloads.results.tables import tables


def page(manifest: Manifest, read: Reading) -> str:
    """One self-contained HTML file that opens from disk and asks the network for nothing.

    Everything in it is escaped; its Content-Security-Policy allows no connection and only the two scripts whose hashes
    it states: the page's own, and plotly.js, which is packed and drawn after the words and tables stand.
    """
    environment = Environment(
        loader=PackageLoader("workloads.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, plotly = _asset("page.js"), get_plotlyjs()
    drawn, concluded = plots(manifest), conclusions(manifest)
    return environment.get_template("index.html.j2").render(
        manifest=manifest,
        summary=summary(manifest, concluded),
        tables=tables(manifest),
        columns=COLUMNS,
        name_of=name_of,
        note_of=note_of,
        percent=percent,
        script_json=script_json,
        findings=concluded.findings,
        facts=facts(manifest),
        plots=drawn,
        reading=read,
        index=_index(manifest, read),
        plotly=base64.b64encode(gzip.compress(plotly.encode(), 9, mtime=0)).decode() if drawn else "",
        policy=policy(script, plotly),
        style=Markup(_asset("page.css")),  # noqa: S704 - the package's own file
        script=Markup(script),  # noqa: S704 - the package's own file
    )


def policy(*scripts: str) -> str:
    """No network, no forms, no frames; only these scripts."""
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def percent(share: Share) -> str:
    """73.0%"""
    return "-" if share.value is None else f"{share.value:.1%}"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("workloads.report") / "templates" / name).read_text(encoding="utf-8")


def _index(manifest: Manifest, read: Reading) -> str:
    """What the page's script must know, as JSON."""
    models = {
        model.id: {
            "label": model.label if model.step is None else f"{model.label} step {model.step}",
            "budget": model.budget_tokens,
        }
        for model in manifest.models
    }
    index = {
        "models": models,
        "budgets": manifest.budgets,
        "outputs": [[chunk.id, chunk.model, chunk.benchmark] for chunk in read.chunks],
        "problems": {chunk.benchmark: chunk.id for chunk in read.problems},
    }
    return json.dumps(index)


def script_json(text: str) -> Markup:
    """JSON that cannot end the script element it stands in: in JSON "<" occurs in strings only."""
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no "<" is left in it
