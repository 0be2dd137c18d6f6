"""Potstill's own programs under drawn faults: every schedule ends in the manifest of an undisturbed run. `make soak` plays
many more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.drive import Played, drive
from tests.faults.lab import Lab, lab
from tests.faults.play import LocalRun, broken_promises, play, write_orphan
from tests.faults.schedules import EVERYWHERE, OF_S3, Fault, Schedule, draw
from tests.faults.stack import stack

pytestmark = pytest.mark.long

ON_A_DIRECTORY = Schedule(
    900,
    "directory",
    (
        Fault("kill train", after=4, delay_seconds=0.3, lasts_seconds=0.5),
        Fault("pause runner", after=6, delay_seconds=0.0, lasts_seconds=1.0),
        Fault("kill everything", after=12, delay_seconds=0.1, lasts_seconds=0.5),
        Fault("gc beside", after=14, delay_seconds=0.0, lasts_seconds=0.5),
    ),
)
ON_S3 = Schedule(
    901,
    "s3",
    (
        Fault("S3 answers 5xx", after=2, delay_seconds=0.0, lasts_seconds=2.0),
        Fault("kill evaluate", after=5, delay_seconds=0.2, lasts_seconds=0.5),
        Fault("S3 restart", after=9, delay_seconds=0.0, lasts_seconds=1.0),
        Fault("kill runner", after=13, delay_seconds=0.0, lasts_seconds=0.5),
    ),
)


def test_a_seed_draws_the_same_schedule_again() -> None:
    assert [draw(seed) for seed in range(40)] == [draw(seed) for seed in range(40)]


def test_two_hundred_schedules_hold_every_kind_of_fault() -> None:
    assert {fault.kind for seed in range(200) for fault in draw(seed).faults} == {*EVERYWHERE, *OF_S3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "schedule",
    [pytest.param(ON_A_DIRECTORY, id="directory"), pytest.param(ON_S3, id="s3", marks=pytest.mark.s3)],
)
def test_a_schedule_ends_in_the_undisturbed_manifest_with_every_promise_kept(
    made: Lab, schedule: Schedule, tmp_path: Path
) -> None:
    played = play(made, schedule, tmp_path / "schedule", keep=True)
    assert played.broken == []
    assert [one.fault for one in played.recoveries if one.seconds is not None], "the faults came while it worked"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_damaged_file_and_a_task_that_was_started_twice_are_found_out(made: Lab, tmp_path: Path) -> None:
    """The checks themselves."""
    schedule = Schedule(902, "directory", ())
    with stack(made, schedule, tmp_path / "schedule") as running:
        write_orphan(running)
        drive(LocalRun(running), schedule, Played(schedule))
        assert broken_promises(running, made) == []
        file = next(running.store_folder.glob("units/train/*/attempts/*/checkpoint-*/**/adapter_model.safetensors"))
        file.write_bytes(b"damaged")
        starts = running.folder / "starts-first"
        starts.write_text(starts.read_text() + starts.read_text())
        broken = " ".join(broken_promises(running, made))
        assert "adapter_model.safetensors has 7 bytes" in broken
        assert "was started 2 times on the first machine" in broken
