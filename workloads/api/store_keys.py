"""All keys of the store. Keys are relative to the store's root and use `/`."""

from workloads.api.units import UnitRef

EXPERIMENTS, UNITS, BLOBS, SWEEP, NOTICES = "experiments/", "units/", "blobs/", "gc/", "notices/"
"""The folders at the root of the store."""


def experiment_prefix(name: str, uid8: str) -> str:
    return f"{EXPERIMENTS}{name}/{uid8}/"


def experiment_key(name: str, uid8: str) -> str:
    return experiment_prefix(name, uid8) + "experiment.json"


def manifest_key(name: str, uid8: str) -> str:
    return experiment_prefix(name, uid8) + "manifest.json"


def report_prefix(name: str, uid8: str) -> str:
    return experiment_prefix(name, uid8) + "report/"


def events_key(name: str, uid8: str, writer: str) -> str:
    """The event log of one writer. Each writer has its own, so that two writers never overwrite each other."""
    return experiment_prefix(name, uid8) + f"events/{writer}.jsonl"


def runner_key(name: str, uid8: str) -> str:
    """The lease of the process that runs the experiment outside a cluster: one `potstill run` at a time."""
    return experiment_prefix(name, uid8) + "runner.json"


def unit_prefix(unit: UnitRef) -> str:
    return f"{UNITS}{unit.kind}/{unit.digest}/"


def task_key(unit: UnitRef, number: int) -> str:
    return unit_prefix(unit) + f"tasks/{number}.json"


def end_key(unit: UnitRef, number: int) -> str:
    return unit_prefix(unit) + f"tasks/{number}.end.json"


def retry_key(unit: UnitRef, number: int) -> str:
    """A user's retry: attempts up to `number` no longer count against the unit's limit."""
    return unit_prefix(unit) + f"tasks/{number}.retry.json"


def attempt_prefix(unit: UnitRef, number: int) -> str:
    return unit_prefix(unit) + f"attempts/{number}/"


def file_key(unit: UnitRef, number: int, marker: str, commit: str, name: str) -> str:
    """Returns the key of a committed file. Readers take keys from the marker.

    `commit` is new for each call of `commit.publish`, so that no two writers share a key, not even two processes of one
    attempt.
    """
    return f"{attempt_prefix(unit, number)}{marker}/{commit}/{name}"


def progress_key(unit: UnitRef, number: int) -> str:
    return attempt_prefix(unit, number) + "progress.json"


def failure_key(unit: UnitRef, number: int) -> str:
    return attempt_prefix(unit, number) + "failure.json"


def log_key(unit: UnitRef, number: int) -> str:
    return attempt_prefix(unit, number) + "log.txt"


def notice_key(unit: UnitRef, number: int) -> str:
    """The attempt's program overwrites it after each commit.

    Readers use only its ETag, which shows which unit to list.
    """
    return f"{NOTICES}{unit.kind}/{unit.digest}/{number}.json"


def offers_prefix(unit: UnitRef, number: int) -> str:
    return unit_prefix(unit) + f"tasks/{number}.offers/"


def offer_key(unit: UnitRef, number: int, sequence: int) -> str:
    """Returns the key of an entry. Entries are numbered from 1 without gaps."""
    return offers_prefix(unit, number) + f"{sequence:06d}.json"


def marker_prefix(unit: UnitRef) -> str:
    return unit_prefix(unit) + "markers/"


def marker_key(unit: UnitRef, name: str) -> str:
    return marker_prefix(unit) + f"{name}.json"


def checkpoint_marker(samples: int) -> str:
    """Returns a zero-padded name, so that a LIST is in training order."""
    return f"checkpoint-{samples:09d}"


STATE = "state-"
"""The prefix of resume states' names."""


def state_marker(step: int) -> str:
    return f"{STATE}{step:09d}"


DONE = "done"
OUTPUTS = "outputs"
GRADES = "grades"
REPORT = "report"
"""Marker names of finished train, generate, grade and report units."""


def blob_key(sha256: str) -> str:
    """Returns a content-addressed key.

    Blobs are written If-None-Match and are equal for all writers (a base's tokenizer.json).
    """
    return f"{BLOBS}{sha256}"


def parked_key(key: str) -> str:
    """Returns where `gc` keeps a marker or blob that it moved from `key`, until it is certain that nothing needs it."""
    return f"{SWEEP}parked/{key}"


SWEEPER = SWEEP + "runner.json"
"""The lease of the process that sweeps the store: one `potstill gc --delete` at a time."""
