"""A hostile program may have written the outcomes: the file is read as untrusted."""

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.grade.outcomes import MOST_BAD_LINES, OutcomeFile, largest_line_bytes, write_outcomes
from workloads.sandbox.order import Lost, Order, Outcome, SandboxLimits, result_from

LIMITS = SandboxLimits((1.0,), 1.0, output_bytes=1_000)
ORDERS = [Order(key, "", "f", ("[]",), LIMITS) for key in ("a", "b")]
A, B = (Outcome(key, "finished", ("1",), (0.0,), "", 0.0, 0.0) for key in ("a", "b"))
BOTH: list[Outcome | Lost] = [A, Lost("b", "gone", 2)]


def _read(path: Path) -> dict[str, Outcome | Lost]:
    outcomes = OutcomeFile(path, ORDERS)
    try:
        return dict(outcomes)
    finally:
        outcomes.close()


def test_outcomes_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_outcomes(tmp_path / "o", BOTH)
    assert _read(tmp_path / "o") == {o.key: o for o in BOTH}
    assert OutcomeFile(tmp_path / "o", ORDERS).asked_again == 1


def test_the_first_of_two_outcomes_for_an_order_counts_and_an_unknown_one_does_not(tmp_path: Path) -> None:
    second = Outcome("a", "finished", ("2",), (0.0,), "", 0.0, 0.0)
    stranger = Outcome("c", "finished", ("1",), (0.0,), "", 0.0, 0.0)
    write_outcomes(tmp_path / "o", [stranger, A, second, B])
    assert _read(tmp_path / "o") == {"a": A, "b": B}


@pytest.mark.parametrize("bad", [b"", b"not json", b"[" * 100_000, b"\xff\xfe", b"null", b'{"key": "a"}', b'{"key": ["a"], "lost": 1}', b"9" * 5_000])  # fmt: skip
def test_a_line_that_is_not_an_outcome_is_skipped(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "o").write_bytes(bad + b"\n" + A.to_json().encode() + b"\n" + B.to_json().encode()[:-4])
    assert _read(tmp_path / "o") == {"a": A}


def test_a_file_of_nonsense_is_not_read_to_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "o").write_text("x\n" * 1_000_000 + A.to_json() + "\n")
    assert _read(tmp_path / "o") == {}
    assert len(caplog.records) == MOST_BAD_LINES + 1


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Limits this process to 256 MiB more memory."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (256 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
def test_terabytes_without_a_line_end_are_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sparse file: it uses no disk space, but a reader without limits would use all memory."""
    with (tmp_path / "o").open("wb") as file:
        file.truncate(1 << 40)
    assert _read(tmp_path / "o") == {}
    assert caplog.records


def test_a_line_longer_than_its_order_may_write_does_not_count(tmp_path: Path) -> None:
    wide = Order("wide", "", "f", ("[]",), SandboxLimits((1.0,), 1.0, output_bytes=10_000_000))
    long = Outcome("a", "finished", ('"' + "x" * largest_line_bytes(ORDERS[0]) + '"',), (0.0,), "", 0.0, 0.0)
    write_outcomes(tmp_path / "o", [long, B])
    outcomes = OutcomeFile(tmp_path / "o", [*ORDERS, wide])
    assert dict(outcomes) == {"b": B}
    outcomes.close()


def test_the_longest_output_that_a_candidate_may_write_fits_into_a_line(tmp_path: Path) -> None:
    outcome = Outcome("a", "finished", ("\x00" * LIMITS.output_bytes,), (0.0,), "", 0.0, 0.0)
    write_outcomes(tmp_path / "o", [outcome])
    assert _read(tmp_path / "o") == {"a": outcome}


@pytest.mark.parametrize("what", ["a link", "a pipe", "a folder", "a device", "nothing", "a link to its folder"])
def test_paths_that_are_not_files_are_empty_and_do_not_block(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "outcomes"
    folder.mkdir()
    path = folder / "o"
    write_outcomes(tmp_path / "o", [A])
    if what == "a link":
        path.symlink_to(tmp_path / "o")
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    elif what == "a device":
        path = Path("/dev/zero")
    elif what == "a link to its folder":
        folder.rmdir()
        folder.symlink_to(tmp_path)
    assert _read(path) == {}


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4), lambda s: st.lists(s) | st.dictionaries(
    st.sampled_from(["key", "end", "values", "seconds", "detail", "cpu_seconds", "wall_seconds", "tries", "doubtful", "lost"]), s), max_leaves=10)  # fmt: skip


@given(JSON)
def test_an_invalid_outcome_raises_only_value_error(data: object) -> None:
    try:
        found = result_from(json.loads(json.dumps(data)))
    except ValueError:
        return
    assert isinstance(found, Outcome | Lost)
