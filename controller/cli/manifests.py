"""Where commands find a manifest: in a store by experiment, or by its own URL or path."""

from pathlib import Path

import typer
from pydantic import ValidationError

from controller.cli.common import store_at
from workloads.contract import layout
from workloads.contract.manifest import Manifest
from workloads.store import NotFound, Store


def manifest_of(store: Store, experiment: str, uid8: str) -> Manifest:
    """An experiment's manifest. Exits 4 when there is none yet; raises StoreError."""
    key = layout.manifest_key(experiment, uid8)
    try:
        return _parsed(store.get(key), f"{store.url}/{key}")
    except NotFound:
        typer.echo(
            f"{store.url} has no {key}: the experiment has not run there, or the file was changed since", err=True
        )
        raise typer.Exit(4) from None


def manifest_at(where: str) -> Manifest:
    """A file's path, or the URL of a manifest in a store. Exits 4 when it is not there or unreadable."""
    if "://" not in where:
        if not Path(where).is_file():
            typer.echo(f"{where} is not there", err=True)
            raise typer.Exit(4)
        return _parsed(Path(where).read_bytes(), where)
    root, _, rest = where.partition("/experiments/")
    try:
        return _parsed(store_at(root).get(f"experiments/{rest}"), where)
    except NotFound:
        typer.echo(f"{where} is not there", err=True)
        raise typer.Exit(4) from None


def _parsed(data: bytes, where: str) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        typer.echo(f"{where} is no manifest that this version can read: {error}", err=True)
        raise typer.Exit(4) from error
