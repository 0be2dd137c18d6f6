"""Finds the files and weights that a spec names, and computes their digests."""

import re
from pathlib import Path as FilePath
from urllib.parse import urlsplit

from controller.experiment.errors import Path, SpecError, SpecProblem, listed, shortened
from workloads.api.tasks import FileSource, ModelSource
from workloads.data.files import BadData
from workloads.data.sources import HubDataset, data_sha256, location_sha256
from workloads.storage.content_digest import ContentError, directory_content, file_sha256, split_location
from workloads.storage.registry import is_in_store, remote_schemes

SHA256_CONTENT = re.compile(r"^sha256:[0-9a-f]{64}$")


def local_path(stated: str, place: Path, directory: FilePath) -> FilePath:
    """Returns `stated`, relative to `directory`, as an absolute path. Raises SpecError at `place` for an invalid path.

    The system refuses the NUL character and names of more than 255 bytes.
    """
    try:
        path = (directory / stated).resolve()
        path.is_dir()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError("experiment", [SpecProblem(place, f"{shortened(stated)} is not a path: {reason}")]) from error
    return path


def _not_expanded(stated: str) -> str:
    """Returns an addition to the error of a path that does not exist, if a shell would have expanded the path."""
    return "; ~ and $ are not expanded: write the whole path" if stated.startswith("~") or "$" in stated else ""


def resolve_model(
    model: str, place: Path, directory: FilePath, *, revision: str | None = None, content: str | None = None
) -> ModelSource:
    """Returns the location and digest of weights.

    Raises SpecError if they do not exist, are not pinned, or have another digest.
    """
    if is_in_store(model):
        if content is None or not SHA256_CONTENT.match(content):
            message = f"{model} is not a local directory: state what it holds as content: sha256:<64 hex>"
            raise SpecError("experiment", [SpecProblem((*place[:-1], "content"), message)])
        try:
            split_location(model)
        except ContentError as error:
            raise SpecError("experiment", [SpecProblem(place, str(error))]) from error
        return ModelSource(location=model, content=content)
    path = local_path(model, place, directory)
    if path.is_dir():
        found = directory_content(path)
        if content is not None and content != found:
            raise SpecError(
                "experiment", [SpecProblem((*place[:-1], "content"), f"{path} holds {found}, not {content}")]
            )
        return ModelSource(location=str(path), content=found)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.startswith("."):
        if place[-2:-1] != ("base",):
            message = (
                f"{model} is not a directory here ({path}); a candidate is a directory or {listed(remote_schemes())}"
            )
            raise SpecError("experiment", [SpecProblem(place, message)])
        if revision is None:
            message = f"is required: {model} is a hub model (no directory {path}), and a branch can move"
            raise SpecError("experiment", [SpecProblem((*place[:-1], "revision"), message)])
        return ModelSource(location=f"hub://{model}@{revision}", content=f"hub:{model}@{revision}")
    if path.is_file():
        message = f"{path} is a file; a base is a directory with config.json, tokenizer.json and .safetensors files"
        raise SpecError("experiment", [SpecProblem(place, message)])
    message = f"{model} is not a directory here ({path}), {listed(remote_schemes())} or hub model{_not_expanded(model)}"
    raise SpecError("experiment", [SpecProblem(place, message)])


def resolve_adapter(adapter: str, content: str | None, place: Path, directory: FilePath) -> ModelSource:
    """Returns the location and digest of an adapter; `place` is its field. Raises SpecError like `resolve_model`."""
    if "://" in adapter:
        return _adapter_in_store(adapter, content, place, directory)
    path = local_path(adapter, place, directory)
    if not path.is_dir():
        message = f"{path} is not a directory{_not_expanded(adapter) or _fetch_hint(adapter)}"
        raise SpecError("experiment", [SpecProblem(place, message)])
    try:
        found = directory_content(path)
    except ContentError as error:
        message = f"{error}{_fetch_hint(adapter)}"
        raise SpecError("experiment", [SpecProblem(place, message)]) from error
    if content is not None and content != found:
        raise SpecError("experiment", [SpecProblem((*place[:-1], "content"), f"{path} holds {found}, not {content}")])
    return ModelSource(location=str(path), content=found)


def _adapter_in_store(adapter: str, content: str | None, place: Path, directory: FilePath) -> ModelSource:
    """Raises SpecError."""
    if not is_in_store(adapter):
        known = listed(("a directory", *remote_schemes()))
        message = f"{shortened(adapter)} is not a location of an adapter: give {known}{_fetch_hint(adapter)}"
        raise SpecError("experiment", [SpecProblem(place, message)])
    if content is None:
        message = (
            f"{adapter} is not a local directory: state what it holds as content: sha256:<64 hex>{_fetch_hint(adapter)}"
        )
        raise SpecError("experiment", [SpecProblem((*place[:-1], "content"), message)])
    return resolve_model(adapter, place, directory, content=content)


def _fetch_hint(adapter: str) -> str:
    """How a run's checkpoint becomes a directory. `adapter`: what the file states, perhaps run@samples."""
    checkpoint = adapter if re.fullmatch(r"[\w.-]+@(last|\d+)", adapter) else "RUN@SAMPLES"
    return f"; a checkpoint of a run is fetched first: potstill fetch EXPERIMENT.YAML {checkpoint} DIR, then name DIR"


def resolve_data(uri: str, sha256: str | None, place: Path, directory: FilePath) -> FileSource:
    """Returns the location and digest of a training data set: a file as in `resolve_file`, a directory, https:// or
    hf://.

    Raises SpecError.
    """
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme not in ("", "https", "hf") and not is_in_store(uri):
        message = f"{uri}: {scheme}:// is not known; use a path, {listed(remote_schemes())}, https:// or hf://datasets/NAME@REVISION/PATH"
        raise SpecError("experiment", [SpecProblem((*place, "uri"), message)])
    if scheme == "hf":
        try:
            HubDataset.parse(uri)
        except ContentError as error:
            raise SpecError("experiment", [SpecProblem((*place, "uri"), str(error))]) from error
        return FileSource(location=uri, sha256=sha256 or location_sha256(uri))
    path = directory if scheme else local_path(uri, (*place, "uri"), directory)
    if scheme or not path.is_dir():
        return resolve_file(uri, sha256, place, directory)
    try:
        found = data_sha256(path)
    except BadData as error:
        raise SpecError("experiment", [SpecProblem((*place, "uri"), str(error))]) from error
    if sha256 is not None and found != sha256:
        raise SpecError("experiment", [SpecProblem((*place, "sha256"), f"{path} has SHA-256 {found}, not {sha256}")])
    return FileSource(location=str(path), sha256=found)


def resolve_file(uri: str, sha256: str | None, place: Path, directory: FilePath) -> FileSource:
    """Returns the location and digest of a file.

    Raises SpecError if a local file does not exist or has another digest.
    """
    if "://" in uri:
        assert sha256 is not None, "check() requires it"
        return FileSource(location=uri, sha256=sha256)
    path = local_path(uri, (*place, "uri"), directory)
    if not path.is_file():
        raise SpecError("experiment", [SpecProblem((*place, "uri"), f"{path} is not a file{_not_expanded(uri)}")])
    found = file_sha256(path)
    if sha256 is not None and found != sha256:
        raise SpecError("experiment", [SpecProblem((*place, "sha256"), f"{path} has SHA-256 {found}, not {sha256}")])
    return FileSource(location=str(path), sha256=found)
