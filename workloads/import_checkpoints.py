"""The import program, `python -m workloads.import_checkpoints TASK`: commits checkpoints that another trainer wrote.

Under the watched location each checkpoint is a folder whose name ends in its sample count (`checkpoint-5000/`); it is
complete when the `ready` file is in it. An adapter's two files are checked against the base and copied to the store;
whole weights are checked and hashed in place. If one checkpoint is bad, the others are still committed.
"""

import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, ExitCode, Marker, Progress, TrainRecord
from workloads.api.tasks import ImportTask
from workloads.api.units import UnitRef
from workloads.engines.base import BadAdapter
from workloads.models.adapters import CONFIG, WEIGHTS, check_adapter
from workloads.models.finite_tensors import not_finite
from workloads.models.safetensors_file import BadSafetensors, read_header
from workloads.models.shapes import BadShapes, ModelShapes, read_shapes
from workloads.program import Context, ProgramError, run_program
from workloads.storage.base import NotFound, Store
from workloads.storage.content_digest import (
    ContentError,
    content_of_sums,
    directory_content,
    hash_file,
    localise_model_file,
    model_names,
)
from workloads.storage.directory import DirectoryStore
from workloads.storage.markers import commit_marker, read_marker
from workloads.storage.source import open_source
from workloads.words import count_of

POLL_SECONDS = 10.0
LARGEST_STEP = 1 << 53

logger = logging.getLogger("potstill")


class BadCheckpoint(Exception):
    """One checkpoint cannot be used. The message names it, the problem, and what to do."""


def run(context: Context[ImportTask], poll_seconds: float = POLL_SECONDS) -> None:
    """Commits each expected checkpoint when it is complete, then `done`.

    Raises ProgramError, which names the bad ones.
    """
    task = context.task
    source = open_source(task.location)
    shapes = base_shapes(task) if task.weights == "adapter" else None
    expected = task.expect or (0,)
    committed = {samples for samples in expected if _standing(context.store, task.unit, samples)}
    bad: dict[int, str] = {}
    while True:
        whole = find_whole(source, task.expect, task.ready)
        if not (whole or task.expect or task.ready):
            raise ProgramError(ExitCode.BAD_DATA, "NothingThere", f"{task.location} holds no file")
        for samples in expected:
            if samples in whole and samples not in committed and samples not in bad:
                try:
                    _commit(context, source, whole[samples], samples, shapes)
                    committed.add(samples)
                    context.notify(store_keys.checkpoint_marker(samples))
                except BadCheckpoint as error:
                    logger.error("%s", error)
                    bad[samples] = str(error)
                context.stop_if_terminated()
        waiting = len(expected) - len(committed) - len(bad)
        _report_progress(context, "waiting" if waiting else "done", len(committed), len(expected))
        if not waiting:
            break
        if context.terminated.wait(poll_seconds):
            context.stop_if_terminated()
    if bad:
        raise ProgramError(ExitCode.BAD_DATA, "BadCheckpoint", "\n".join(bad.values()))
    finish(context.store, task.unit, task.number, expected, context.now())
    context.notify(store_keys.DONE)


def base_shapes(task: ImportTask) -> ModelShapes:
    """Returns the base's layers, from its config.json alone. Raises ProgramError, ContentError, StoreError."""
    with tempfile.TemporaryDirectory() as folder:
        config = localise_model_file(task.base, "config.json", Path(folder))
        try:
            return read_shapes(config.parent)
        except BadShapes as error:
            raise ProgramError(ExitCode.BAD_CONFIGURATION, "BadModel", str(error)) from error


def find_whole(source: Store, expect: Iterable[int], ready: str | None) -> dict[int, str]:
    """Returns the prefixes of complete checkpoints by sample count; without `expect`, the location itself is one.

    A watched directory that does not exist yet has none. If two folders have the same number, the last by name counts.
    Raises StoreError.
    """
    expect = set(expect)
    whole: dict[int, str] = {}
    if isinstance(source, DirectoryStore) and not source.root.is_dir():
        return whole
    for info in source.list(""):
        folder, _, name = info.key.rpartition("/")
        if not expect and not folder and name == (ready or name):
            whole[0] = ""
        number = re.search(r"(\d+)$", folder)
        if "/" not in folder and number and int(number[1]) in expect and name == (ready or name):
            whole[int(number[1])] = folder + "/"
    return whole


def commit_adapter(
    store: Store, unit: UnitRef, attempt: int, samples: int, folder: Path, shapes: ModelShapes, now: datetime
) -> Marker:
    """Checks the adapter in `folder` and commits it as the checkpoint at `samples`.

    Raises BadCheckpoint, commit.Superseded, StoreError.
    """
    try:
        check_adapter(f"checkpoint {samples}", folder, shapes)
        infinite = not_finite(folder / WEIGHTS)
    except (BadAdapter, BadSafetensors) as error:
        raise BadCheckpoint(f"checkpoint at {count_of(samples, 'sample')}: {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever another trainer's files provoke is about them alone
        raise BadCheckpoint(f"checkpoint at {count_of(samples, 'sample')} cannot be checked: {error!r:.500}") from error
    if infinite:
        raise BadCheckpoint(
            f"checkpoint at {count_of(samples, 'sample')}: {count_of(len(infinite), 'tensor')} with NaN or Inf, first: "
            f"{infinite[0]}"
        )
    record = CheckpointRecord(samples=samples, step=_step(folder))
    files = {name: folder / name for name in (CONFIG, WEIGHTS)}
    return commit_marker(store, unit, attempt, store_keys.checkpoint_marker(samples), files, record, now=now)


def commit_model(
    store: Store, unit: UnitRef, attempt: int, samples: int, location: str, content: str, now: datetime
) -> Marker:
    """Commits whole weights by location and content (`sha256:<64 hex>`); nothing is copied.

    Raises commit.Superseded, StoreError.
    """
    record = CheckpointRecord(samples=samples, step=0, weights="model", location=location, model_content=content)
    name = store_keys.checkpoint_marker(samples)
    return commit_marker(store, unit, attempt, name, {}, record, now=now, content=content.removeprefix("sha256:"))


def finish(store: Store, unit: UnitRef, attempt: int, expected: Iterable[int], now: datetime) -> Marker | None:
    """Commits `done` if markers of all expected checkpoints exist, otherwise returns None.

    Raises commit.Superseded, StoreError.
    """
    expected = tuple(expected)
    if not all(_standing(store, unit, samples) for samples in expected):
        return None
    record = TrainRecord(
        samples=max(expected),
        steps=0,
        data=None,
        final_loss=None,
        train_seconds=0.0,
        tokens_per_second=None,
        device="external",
        devices=0,
        versions={},
    )
    return commit_marker(store, unit, attempt, store_keys.DONE, {}, record, now=now)


def model_content_of(location: str) -> str:
    """Returns `directory_content` of whole weights in a directory or, read file by file, in a bucket.

    Raises BadCheckpoint for a file that is not safetensors or is cut short, ContentError, StoreError.
    """
    source = open_source(location)
    if isinstance(source, DirectoryStore):
        for path in sorted(source.root.glob("*.safetensors")):
            _check_header(location, path.name, path)
        return directory_content(source.root)
    sums: dict[str, str] = {}
    for name in model_names(source, ""):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            source.download(name, path)
            sums[name] = hash_file(path)
            if name.endswith(".safetensors"):
                _check_header(location, name, path)
    return content_of_sums(location, sums)


def _check_header(location: str, name: str, path: Path) -> None:
    try:
        read_header(path)
    except BadSafetensors as error:
        raise BadCheckpoint(f"{location}/{name}: {error}") from error


def _step(folder: Path) -> int:
    """Returns the optimizer step in trainer_state.json of Hugging Face's trainers; 0 if there is none."""
    try:
        step = json.loads((folder / "trainer_state.json").read_bytes())["global_step"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return step if type(step) is int and 0 <= step < LARGEST_STEP else 0


def _standing(store: Store, unit: UnitRef, samples: int) -> bool:
    return read_marker(store, unit, store_keys.checkpoint_marker(samples)) is not None


def _report_progress(context: Context[ImportTask], phase: str, done: int, total: int) -> None:
    context.progress(
        Progress(
            attempt=context.task.number,
            updated=context.now(),
            phase=phase,
            done=done,
            total=total,
            counted="checkpoints",
        )
    )


def _commit(context: Context[ImportTask], source: Store, prefix: str, samples: int, shapes: ModelShapes | None) -> None:
    task, now = context.task, context.now()
    if shapes is None:
        location = f"{task.location.rstrip('/')}/{prefix}".rstrip("/")
        try:
            content = model_content_of(location)
        except ContentError as error:
            raise BadCheckpoint(f"checkpoint at {count_of(samples, 'sample')}: {error}") from error
        _require_content(task, content)
        commit_model(context.store, task.unit, task.number, samples, location, content, now)
        return
    if _is_by_content(task):
        _require_content(task, model_content_of(task.location))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (CONFIG, WEIGHTS):
            try:
                source.download(prefix + file, folder / file)
            except NotFound as error:
                raise BadCheckpoint(
                    f"checkpoint at {count_of(samples, 'sample')}: {source.url}/{prefix}{file} does not exist"
                ) from error
        if source.head(prefix + "trainer_state.json"):
            source.download(prefix + "trainer_state.json", folder / "trainer_state.json")
        commit_adapter(context.store, task.unit, task.number, samples, folder, shapes, now)


def _is_by_content(task: ImportTask) -> bool:
    return task.inputs.source.startswith("sha256:")


def _require_content(task: ImportTask, found: str) -> None:
    """Raises if a candidate is not the accepted one: its unit's digest identifies it."""
    if _is_by_content(task) and found != task.inputs.source:
        raise ContentError(
            f"{task.location} has changed since the experiment was accepted: it holds {found}, not "
            f"{task.inputs.source}. Put the old content back, or submit the experiment again with the new one"
        )


if __name__ == "__main__":
    sys.exit(run_program(ImportTask, run))
