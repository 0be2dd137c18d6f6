"""`potstill candidate`: fills a candidate's weights into a template, and writes a file to submit. For CI."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from controller.cli.common import ExperimentFile
from controller.experiment.errors import SpecError, SpecProblem
from controller.experiment.load import load_experiment, parse_experiment
from workloads.api.model import canonical_json, sha256_of
from workloads.import_checkpoints import BadCheckpoint, model_content_of
from workloads.storage.registry import is_in_store

DIGEST_CHARACTERS = 12


def candidate(
    template: ExperimentFile,
    out: Annotated[Path, typer.Option("--out", help="Write the experiment file here.", metavar="FILE")],
    adapter: Annotated[str | None, typer.Option(help="Where the candidate's adapter is.", metavar="URI")] = None,
    model: Annotated[str | None, typer.Option(help="Where its whole weights are.", metavar="URI")] = None,
    content: Annotated[
        str | None,
        typer.Option(help="Digest of s3:// weights; default: computed from all their files.", metavar="SHA256"),
    ] = None,
    label: Annotated[str | None, typer.Option(help="For tables and plots; any text.", metavar="TEXT")] = None,
) -> None:
    """Put weights in the place of the template's only candidate, and write the experiment file. For CI.

    Example: potstill candidate template.yaml --out candidate.yaml --adapter s3://lab/adapters/7

    The name ends in a digest of the experiment, so that the same candidate submitted twice is one Experiment.
    """
    if (adapter is None) == (model is None):
        raise typer.BadParameter("give --adapter or --model, one of the two")
    only = _only_candidate(template)
    location = adapter or model or ""
    if content is None and is_in_store(location):
        content = _content(location)
    body: dict[str, Any] = yaml.safe_load(template.read_text(encoding="utf-8"))
    kept = {key: value for key, value in only.items() if key not in ("adapter", "model", "content")}
    stated = {"adapter": adapter, "model": model, "content": content, "label": label}
    body["spec"]["candidates"] = [kept | {key: value for key, value in stated.items() if value is not None}]
    digest = sha256_of(canonical_json(body["spec"]))[:DIGEST_CHARACTERS]
    body["metadata"]["name"] = f"{body['metadata']['name']}-{digest}"
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)
    parse_experiment(text, str(out))
    out.write_text(text, encoding="utf-8")
    typer.echo(f"{body['metadata']['name']}: {location}" + (f" ({content})" if content else ""))


def _only_candidate(template: Path) -> dict[str, Any]:
    """Returns the template's only candidate as the file states it. Raises SpecError."""
    load_experiment(template)
    found: list[dict[str, Any]] = yaml.safe_load(template.read_text(encoding="utf-8"))["spec"].get("candidates", [])
    if len(found) != 1:
        message = f"holds {len(found)}candidates; a template has exactly one"
        raise SpecError(str(template), [SpecProblem(("spec", "candidates"), message)])
    return found[0]


def _content(location: str) -> str:
    """Returns the digest of the weights, after reading all of them. Raises SpecError, StoreError."""
    try:
        return model_content_of(location)
    except BadCheckpoint as error:
        raise SpecError(location, [SpecProblem((), str(error))]) from error
