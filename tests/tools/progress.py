"""Records every progress that a program reports, also those that are soon overwritten in the store."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workloads.api.records import Progress
from workloads.api.units import UnitRef
from workloads.program import Context


class Told:
    """Wraps the courier of a program's context."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.abandoned = False

    def body(self, body: Callable[[Context[Any]], None]) -> Callable[[Context[Any]], None]:
        return lambda context: body(replace(context, courier=self))

    def leave(self, progress: Progress) -> None:
        self.progress.append(progress)

    def notify(self, _unit: UnitRef, _number: int, _about: str) -> None:
        """Ignores notices."""

    def done(self, member: str) -> list[int]:
        """The reported progress of a member, each number once."""
        return list(dict.fromkeys(progress.members.get(member, 0) for progress in self.progress))
