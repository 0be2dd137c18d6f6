"""The display of a running experiment, on a terminal and without one."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from controller.overall import Estimate, is_preparing, share_done
from controller.planner.actions import Condition, Counts, EvaluationLine, LineState, RunLine, Status
from controller.terminal import Clock, duration, make_screen
from controller.trouble import Trouble, trouble_of_status
from tests.controller.experiments import START


def status(done: int, problems: int) -> Status:
    run = RunLine("math", "Math 4K", "running", "", done, 500, 1, 5, 0.4321, 12345.6, 3723.0)
    failed = EvaluationLine("base", "sums", "fast", "failed", "grade", "Crashed", "exited with 1")
    generating = EvaluationLine("math@50", "sums", "fast", "running", "generate", "Attempted", "", problems, 100)
    return Status((Condition("Accepted", "True", "Frozen", ""),), (run,), (failed, generating), Counts(1, 1, 0))


def shown(*statuses: Status, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    with make_screen(terminal, console) as screen:
        for one in statuses:
            screen.show(one, START)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_at_a_terminal_it_is_a_table() -> None:
    text = shown(status(100, 40), terminal=True)
    for part in ("Math 4K", "100/500", "1/5", "0.4321", "12,346", "1:02:03", "generating", "40/100", "exited with 1"):
        assert part in text


def test_without_a_terminal_a_line_says_what_changed() -> None:
    lines = shown(status(100, 40), status(101, 41), status(150, 41), terminal=False).splitlines()
    assert lines == [
        "09:00:00 Math 4K: running, step 100/500, 1/5 checkpoints, loss 0.4321, 12,346 tokens/s, 1:02:03 left",
        "09:00:00 base sums/fast: failed: exited with 1",
        "09:00:00 math@50 sums/fast: generating 40/100",
        "09:00:00 Math 4K: running, step 150/500, 1/5 checkpoints, loss 0.4321, 12,346 tokens/s, 1:02:03 left",
    ]


def test_without_a_terminal_each_quarter_of_the_problems_is_a_line_and_so_is_the_first() -> None:
    lines = shown(*(status(100, problems) for problems in range(101)), terminal=False).splitlines()
    said = [line.rsplit(" ", 1)[1] for line in lines if "generating" in line]
    assert said == ["0/100", "1/100", "25/100", "50/100", "75/100", "100/100"]


def test_trouble_is_reported_once() -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    unseen = Status((Condition("Ready", "Unknown", "StoreUnavailable", "LIST: 403"),))
    with make_screen(False, console) as screen:
        for number in range(9):
            screen.show(status(100, 40), START, Trouble("CloseTask StoreError", f"CloseTask: no space for .{number}"))
        screen.show(unseen, START, trouble_of_status(unseen))
        screen.show(status(100, 40), START)
    assert isinstance(console.file, io.StringIO)
    after = "Trying again, after 30 s at most; Ctrl-C ends, and what is committed stays"
    assert console.file.getvalue().splitlines()[3:] == [
        f"09:00:00 CloseTask: no space for .0. {after}",
        f"09:00:00 StoreUnavailable: LIST: 403. {after}",
        "09:00:00 the run continues",
    ]


def test_a_line_that_waits_for_another_experiment_says_so() -> None:
    run = RunLine("math", "Math 4K", "waiting", "waits for experiment heir (attempt 1)", reason="SharedUnit")
    line = EvaluationLine(
        "base", "sums", "fast", "waiting", "grade", "SharedUnit", "waits for experiment heir (attempt 2)"
    )
    both = Status((Condition("Accepted", "True", "Frozen", ""),), (run,), (line,))
    assert shown(both, terminal=False).splitlines() == [
        "09:00:00 Math 4K: waits for experiment heir (attempt 1)",
        "09:00:00 base sums/fast: waits for experiment heir (attempt 2)",
    ]
    table = shown(both, terminal=True)
    assert "waits for experiment heir (attempt 1)" in table
    assert "waits for experiment heir (attempt 2)" in table


def test_durations() -> None:
    assert [duration(seconds) for seconds in (7, 123, 3723)] == ["0:07", "2:03", "1:02:03"]


HOSTILE = "cannot open [/usr/lib/x] [rank, hidden] \x1b]0;owned\x07\x1b[2J [link=https://evil]y[/link] :smile:\n09:00:00 base: graded"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_hostile_message_is_shown_as_text(terminal: bool) -> None:
    failed = EvaluationLine("[/m]@50", "sums", "fast", "failed", "grade", "Crashed", HOSTILE)
    run = RunLine("[bold]Math", "[bold]Math", "failed", HOSTILE, 0, 500, 1, 5, None, None, None)
    trouble = Condition("Ready", "Unknown", "StoreUnavailable", HOSTILE)
    text = shown(Status((), (run,), (failed,), Counts(1, 1, 0)), Status((trouble,)), terminal=terminal)
    for part in ("[/usr/lib/x]", "[rank, hidden]", "[link=https://evil]y[/link]", ":smile:", "[/m]@50", "[bold]Math"):
        assert part in text.replace("\n", " "), part
    assert "\x07" not in text
    assert "\x1b]" not in text
    if not terminal:
        assert "\x1b" not in text
        assert not [line for line in text.splitlines() if line.startswith("09:00:00 base: graded")]


BLOCKED = "blocked by run math_truncate (failed)"


def blocked(number: int) -> Status:
    """A failed run with `number` evaluations, and one evaluation that failed for another reason."""
    run = RunLine("math_truncate", "Truncate", "failed", "CUDA out of memory", 0, 500, 0, 18)
    lines = [
        EvaluationLine(f"math_truncate@{n}", "sums", "fast", "failed", "train", "Crashed", BLOCKED)
        for n in range(number)
    ]
    own = EvaluationLine("base", "sums", "fast", "failed", "grade", "Crashed", "exited with 1")
    return Status((Condition("Accepted", "True", "Frozen", ""),), (run,), (own, *lines))


def test_the_cause_of_many_failures_is_printed_once() -> None:
    assert shown(blocked(36), blocked(36), terminal=False).splitlines() == [
        "09:00:00 Truncate: failed: CUDA out of memory",
        "09:00:00 base sums/fast: failed: exited with 1",
        f"09:00:00 36 evaluations (first math_truncate@0 sums/fast): failed: {BLOCKED}",
    ]
    table = shown(blocked(36), terminal=True)
    assert table.count(BLOCKED) == table.count("exited with 1")  # once in each drawing of the table
    assert "math_truncate@0 and 35 more" in table
    assert "exited with 1" in table


def loading(phase: str = "loading weights (61.1 GB)") -> Status:
    run = RunLine("math", "Math 4K", "running", "", 0, 500, 0, 5, phase=phase)
    lines = [
        EvaluationLine("base", name, "fast", "running", "generate", "Attempted", "", 0, 100, phase=phase)
        for name in ("sums", "lists")
    ]
    return Status((Condition("Accepted", "True", "Frozen", ""),), (run,), tuple(lines))


def test_from_the_first_second_it_says_what_the_programs_do() -> None:
    assert shown(loading("reading data"), loading(), loading(), terminal=False).splitlines() == [
        "09:00:00 Math 4K: reading data, 0/5 checkpoints",
        "09:00:00 base sums/fast: generating 0/100",
        "09:00:00 base lists/fast: generating 0/100",
        "09:00:00 reading data for 2 evaluations",
        "09:00:00 Math 4K: loading weights (61.1 GB), 0/5 checkpoints",
        "09:00:00 loading weights (61.1 GB) for 2 evaluations",
    ]
    table = shown(loading(), terminal=True)
    assert table.count("loading weights (61.1 GB)") >= 3
    assert "0% done, 0:00 so far" in table


def test_the_clock_runs_while_nothing_changes() -> None:
    times = iter(float(second) for second in range(100))
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    clock = Clock(lambda: next(times), "0% done")
    for _ in range(2):
        console.print(clock)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == ["0% done, 0:01 so far", "0% done, 0:02 so far"]


@pytest.mark.parametrize("terminal", [True, False])
def test_after_ctrl_c_it_says_that_it_is_stopping(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    with make_screen(terminal, console) as screen:
        for _ in range(3):
            screen.show(status(100, 40), START, stopping=True)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "stopping: programs save their state and end; Ctrl-C again ends at once" in text
    assert terminal or text.count("stopping") == 1


def test_the_end_is_estimated_from_what_this_session_did() -> None:
    estimate = Estimate()
    assert estimate.text(0.5, 0.0) == "50% done"
    assert estimate.text(0.51, 60.0) == "51% done"
    assert estimate.text(0.6, 600.0) == "60% done, about 40 min left"
    assert estimate.text(0.999, 3000.0) == "99% done, about 6 s left"
    assert estimate.text(1.0, 3600.0) == "100% done"


def test_the_start_of_an_engine_does_not_lengthen_the_estimate() -> None:
    estimate = Estimate()
    assert estimate.text(0.0, 0.0) == "0% done"
    assert estimate.text(0.1, 20.0) == "10% done, about 3 min left"
    assert estimate.text(0.1, 160.0, preparing=True) == "10% done, about 3 min left"
    assert estimate.text(0.2, 180.0) == "20% done, about 3 min left"


def test_programs_prepare_while_none_of_them_counts_anything() -> None:
    starting = EvaluationLine("base", "sums", "fast", "running", "generate", "Attempted", "", phase="starting vllm")
    training = RunLine("math", "Math 4K", "running", "", 100, 500, 1, 5)
    conditions, counts = (Condition("Accepted", "True", "Frozen", ""),), Counts(1, 1, 0)
    assert is_preparing(Status(conditions, (), (starting,), counts))
    assert not is_preparing(Status(conditions, (training,), (starting,), counts))
    assert not is_preparing(Status(conditions, (), (), counts))


def test_without_a_terminal_each_further_tenth_is_a_line() -> None:
    lines = shown(*(status(done, 40) for done in range(0, 501, 10)), terminal=False).splitlines()
    percents = [int(found[1]) for line in lines if (found := re.fullmatch(r"09:00:00 (\d+)% done", line))]
    assert [percent // 10 for percent in percents] == [2, 3, 4, 5, 6, 7, 8]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=5),
    st.lists(st.sampled_from(["waiting", "pending", "running", "done", "failed"]), max_size=5),
)
def test_the_share_is_one_only_when_all_is_done(runs: list[tuple[int, int]], states: list[LineState]) -> None:
    lines = tuple(
        RunLine("r", "r", "done" if done >= total else "running", "", min(done, total), total, 0, 2)
        for done, total in runs
    )
    evaluations = tuple(
        EvaluationLine("m", "b", "all", state, "generate", "", "", 1 if state == "running" else 0, 2)
        for state in states
    )
    share = share_done(Status((), lines, evaluations))
    whole = all(run.state == "done" for run in lines) and all(state in ("done", "failed") for state in states)
    assert 0 <= share <= 1
    assert (share == pytest.approx(1.0)) == (whole and bool(runs or states))
