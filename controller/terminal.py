"""The display of `potstill run`: a table that redraws itself, or plain lines without a terminal."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from controller.overall import Estimate, is_loading, is_preparing, share_done
from controller.planner.actions import EvaluationLine, LineState, RunLine, StageLine, Status, counted
from controller.planner.unit_state import SHARED
from controller.trouble import LONGEST_WAIT_SECONDS, Trouble
from workloads.stages.registry import stage_named
from workloads.untrusted import printable
from workloads.words import count_of

COLOURS: dict[LineState, str] = {
    "waiting": "dim",
    "pending": "yellow",
    "running": "cyan",
    "done": "green",
    "failed": "red",
}
SHOWN_EVALUATIONS = 20
STOPPING = "stopping: programs save their state and end; Ctrl-C again ends at once"


class Screen(Protocol):
    def show(self, status: Status, now: datetime, trouble: Trouble | None = None, *, stopping: bool = False) -> None:
        """`trouble`: what blocks the run at the moment. `stopping`: whether the user asked for the end."""
        ...


class PlainConsole(Console):
    """Prints strings as plain text, also in tables, because messages quote models and users.

    Markup, :emoji: and escape sequences have no effect. Text with a style must come from `shown`.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def plain_console(file: IO[str], width: int | None = None) -> Console:
    return PlainConsole(file=file, soft_wrap=True, width=width, markup=False, emoji=False, highlight=False)


def shown(text: str, style: str = "") -> Text:
    """Returns untrusted text for a terminal, without escape sequences and markup."""
    return Text(printable(text), style)


@contextmanager
def make_screen(live: bool, console: Console | None = None) -> Iterator[Screen]:
    """`live`: False, or no terminal on standard output: plain lines."""
    console = console or plain_console(sys.stdout)
    if not live or not console.is_terminal:
        yield PlainScreen(console)
        return
    with Live(Clock(time.monotonic, "starting"), console=console, refresh_per_second=2, transient=False) as display:
        yield LiveScreen(display)


class LiveScreen:
    """Redraws the table twice a second, so that its clock runs during a long round."""

    def __init__(self, display: Live, clock: Callable[[], float] = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._estimate = Estimate()
        self._started = clock()

    def show(
        self,
        status: Status,
        now: datetime,  # noqa: ARG002
        trouble: Trouble | None = None,
        *,
        stopping: bool = False,
    ) -> None:
        seconds = self._clock() - self._started
        shown: list[RenderableType] = []
        if status.runs or status.evaluations or trouble is None:
            shown.append(render(status))
        if status.runs or status.evaluations:
            shown.append(
                Clock(
                    self._clock, self._estimate.text(share_done(status), seconds, is_preparing(status)), self._started
                )
            )
        if trouble is not None:
            shown.append(Text(_trying_again(trouble), "yellow"))
        if stopping:
            shown.append(Text(STOPPING, "yellow"))
        self._display.update(Group(*shown), refresh=True)


class Clock:
    """A line with the time since the start, computed whenever it is drawn."""

    def __init__(self, clock: Callable[[], float], text: str, started: float | None = None) -> None:
        self._clock = clock
        self._text = text
        self._started = clock() if started is None else started

    def __rich__(self) -> Text:
        return Text(f"{self._text}, {duration(self._clock() - self._started)} so far")


class PlainScreen:
    """Prints a line when a task begins, ends or fails; for a run also at each checkpoint and each tenth of its steps,
    for an evaluation at each quarter of its problems. Evaluations that fail at the same time with the same message
    share one line. Trouble is printed once when it begins and once when it ends, the overall share at each tenth.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, str] = {}
        self._troubles: set[str] = set()
        self._estimate = Estimate()
        self._started: datetime | None = None
        self._tenths: int | None = None
        self._loading: frozenset[str] = frozenset()
        self._stopping = False

    def show(self, status: Status, now: datetime, trouble: Trouble | None = None, *, stopping: bool = False) -> None:
        news = [(name, line) for name, line in plain_lines(status) if self._said.get(name) != _milestone(line)]
        self._said.update((name, _milestone(line)) for name, line in news)
        failed = by_cause(line for _, line in news if isinstance(line, EvaluationLine))
        names = {lines[0].id: names_of(lines) for lines in failed}
        repeated = {line.id for lines in failed for line in lines[1:]}
        for name, line in news:
            if name not in repeated:
                self._say(f"{now:%H:%M:%S} {names.get(name, name)}: {describe(line)}")
        self._say_loading(status, now)
        if status.runs or status.evaluations:
            self._say_share(status, now)
        if stopping and not self._stopping:
            self._stopping = True
            self._say(f"{now:%H:%M:%S} {STOPPING}")
        if trouble is None and self._troubles:
            self._troubles.clear()
            self._say(f"{now:%H:%M:%S} the run continues")
        if trouble is not None and trouble.kind not in self._troubles:
            self._troubles.add(trouble.kind)
            self._say(f"{now:%H:%M:%S} {_trying_again(trouble)}")

    def _say_share(self, status: Status, now: datetime) -> None:
        """Prints the share at each tenth."""
        self._started = self._started or now
        share = share_done(status)
        text = self._estimate.text(share, (now - self._started).total_seconds(), is_preparing(status))
        before, self._tenths = self._tenths, int(10 * share)
        if before is not None and before < self._tenths < 10:
            self._say(f"{now:%H:%M:%S} {text}")

    def _say_loading(self, status: Status, now: datetime) -> None:
        """Prints one line for all evaluations whose programs are in the same phase."""
        phases = Counter(line.phase for line in status.evaluations if is_loading(line))
        for phase, number in phases.items():
            if phase not in self._loading:
                self._say(f"{now:%H:%M:%S} {phase} for {count_of(number, 'evaluation')}")
        self._loading = frozenset(phases)

    def _say(self, text: str) -> None:
        """Prints one line. Further lines of a message are indented, so that they cannot be mistaken for other lines."""
        self._console.print(shown(text.replace("\n", "\n    ")), soft_wrap=True)


def _trying_again(trouble: Trouble) -> str:
    return (
        f"{trouble.message}. Trying again, after {LONGEST_WAIT_SECONDS:.0f} s at most; Ctrl-C ends, and what is "
        "committed stays"
    )


def plain_lines(status: Status) -> Iterator[tuple[str, RunLine | EvaluationLine | StageLine]]:
    """Yields lines whose state is not waiting, and lines that wait for another experiment."""
    yield from ((run.label, run) for run in status.runs if is_shown(run))
    yield from ((line.id, line) for line in status.evaluations if is_shown(line))
    yield from ((f"{line.stage} of {line.source}", line) for line in status.stages if is_shown(line))


def is_shown(line: RunLine | EvaluationLine | StageLine) -> bool:
    return line.state != "waiting" or line.reason == SHARED


def says_why(run: RunLine) -> bool:
    """Returns whether the run's message must be shown below the table of runs."""
    return run.state == "failed" or run.reason == SHARED


def by_cause(lines: Iterable[EvaluationLine]) -> list[list[EvaluationLine]]:
    """Returns the failed ones of `lines`, grouped by message."""
    found: dict[str, list[EvaluationLine]] = {}
    for line in lines:
        if line.state == "failed":
            found.setdefault(line.message, []).append(line)
    return list(found.values())


def names_of(lines: list[EvaluationLine]) -> str:
    """Returns the id of one line; for several, their number and the first id."""
    number = counted(lines).asked
    return lines[0].id if number == 1 else f"{number} evaluations (first {lines[0].id})"


def _milestone(line: RunLine | EvaluationLine | StageLine) -> str:
    if line.state in {"failed", "waiting"}:
        return f"{line.state} {line.message}"
    if isinstance(line, StageLine):
        return line.state
    if isinstance(line, EvaluationLine):
        return f"{line.state} {line.stage} {_share(line, 4)}"
    return f"{line.state} {line.phase if is_loading(line) else ''} {line.checkpoints} {_share(line, 10)}"


def _share(line: RunLine | EvaluationLine, parts: int) -> int:
    """Returns how many of `parts` equal parts are done; -1 if nothing is done yet."""
    if not line.total or not line.done:
        return -1
    return parts * line.done // line.total


def describe(line: RunLine | EvaluationLine | StageLine) -> str:
    """Returns one sentence: state, progress, and for a run loss, speed, time left."""
    if line.state == "failed":
        return f"failed: {line.message}"
    if line.state == "waiting" and line.reason == SHARED:
        return line.message
    if isinstance(line, RunLine):
        parts: list[str] = [line.phase if is_loading(line) else line.state]
        if line.total and not is_loading(line):
            parts.append(f"step {line.done}/{line.total}")
        if line.checkpoints_expected:
            parts.append(f"{line.checkpoints}/{count_of(line.checkpoints_expected, 'checkpoint')}")
        return ", ".join(parts + run_numbers(line))
    if isinstance(line, StageLine):
        return stage_named(line.stage).activity if line.state == "running" else line.state
    if line.state == "running":
        activity = stage_named(line.stage).activity
        return f"{activity} {line.done}/{line.total}" if line.total else activity
    return "graded" if line.state == "done" else line.state


def run_numbers(run: RunLine) -> list[str]:
    found = []
    if run.loss is not None:
        found.append(f"loss {run.loss:.4f}")
    if run.tokens_per_second is not None:
        found.append(f"{run.tokens_per_second:,.0f} tokens/s")
    if run.eta_seconds is not None:
        found.append(f"{duration(run.eta_seconds)} left")
    return found


def duration(seconds: float) -> str:
    """Returns text such as 1:02:03, 2:03 or 0:07."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds_left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"


def render(status: Status) -> RenderableType:
    """Returns the whole screen: runs, then evaluations that run or failed, then totals."""
    parts: list[RenderableType] = []
    if status.runs:
        parts.append(_runs_table(status))
        parts += [shown(f"{run.label}: {describe(run)}") for run in status.runs if says_why(run)]
    moving = [line for line in status.evaluations if line.state != "done" and is_shown(line)]
    if moving:
        parts.append(_evaluations_table(moving))
    parts.append(_totals(status))
    return Group(*parts)


def _runs_table(status: Status) -> Table:
    table = Table("run", "state", "step", "checkpoints", "loss", "tokens/s", "left", box=None, pad_edge=False)
    for run in status.runs:
        table.add_row(
            shown(run.label),
            shown(run.phase if is_loading(run) else run.state, COLOURS[run.state]),
            f"{run.done}/{run.total}" if run.total else "",
            f"{run.checkpoints}/{run.checkpoints_expected}" if run.checkpoints_expected else str(run.checkpoints),
            "" if run.loss is None else f"{run.loss:.4f}",
            "" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}",
            "" if run.eta_seconds is None else duration(run.eta_seconds),
        )
    return table


def _evaluations_table(lines: list[EvaluationLine]) -> Table:
    table = Table("model", "benchmark", "state", "problems", "", box=None, pad_edge=False)
    groups = [[line] for line in lines if line.state != "failed"]
    groups += by_cause(lines)
    for group in groups[:SHOWN_EVALUATIONS]:
        line = group[0]
        verb = stage_named(line.stage).activity if line.state == "running" else line.state
        verb = line.phase if is_loading(line) else verb
        table.add_row(
            shown(line.model if len(group) == 1 else f"{line.model} and {len(group) - 1} more"),
            shown(f"{line.benchmark}/{line.part}"),
            shown(verb, COLOURS[line.state]),
            f"{line.done}/{line.total}" if line.total else "",
            shown(line.message if line.state != "running" else ""),
        )
    if len(groups) > SHOWN_EVALUATIONS:
        table.add_row(f"and {sum(map(len, groups[SHOWN_EVALUATIONS:]))} more")
    return table


def _totals(status: Status) -> Text:
    if not status.runs and not status.evaluations:
        return shown("; ".join(f"{c.reason}: {c.message}" for c in status.conditions), "yellow")
    counts = counted(status.evaluations)
    checkpoints, asked = count_of(status.counts.checkpoints, "checkpoint"), count_of(counts.asked, "evaluation")
    totals = f"{checkpoints}, {counts.graded} of {asked} graded"
    return Text(totals + (f", {counts.failed} failed" if counts.failed else ""))
