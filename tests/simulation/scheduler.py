"""Actors that take turns at every call to the store, in an order drawn from a seed, with simulated time.

Each actor is a thread, and only one runs at a time: an actor yields its turn at `Scheduler.turn` and at `sleep`. So the
unchanged real code meets every interleaving of its calls, and a seed always gives the same one.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

LONGEST_TURN_SECONDS = 60.0
"""In real time: an actor that takes longer hangs."""


class Killed(BaseException):
    """Raised in an actor that was killed, at its next turn: no `except Exception` catches it."""


@dataclass
class Actor:
    name: str
    body: Callable[[], None]
    scheduler: "Scheduler" = field(repr=False)
    wakes: datetime
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0), repr=False)
    killed: bool = False
    over: bool = False
    error: BaseException | None = None
    thread: threading.Thread | None = field(default=None, repr=False)

    def run(self) -> None:
        self.go.acquire()
        try:
            if not self.killed:
                self.body()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.over = True
            self.scheduler.back.release()


class Scheduler:
    """`turn_seconds`: the longest duration of one call, in the actors' time."""

    def __init__(self, seed: int, start: datetime, turn_seconds: float = 0.5) -> None:
        self.random = random.Random(seed)
        self.now = start
        self.turn_seconds = turn_seconds
        self.actors: list[Actor] = []
        self.back = threading.Semaphore(0)
        self.turns = 0
        self._current = threading.local()

    def spawn(self, name: str, body: Callable[[], None], after_seconds: float = 0.0) -> Actor:
        actor = Actor(name, body, self, self.now + timedelta(seconds=after_seconds))

        def run() -> None:
            self._current.actor = actor
            actor.run()

        actor.thread = threading.Thread(target=run, name=name, daemon=True)
        actor.thread.start()
        self.actors.append(actor)
        return actor

    def turn(self) -> None:
        """Called by an actor: others may run before it continues. It does nothing in any other thread.

        Raises Killed.
        """
        actor: Actor | None = getattr(self._current, "actor", None)
        if actor is not None:
            self._give_up(actor, self.random.uniform(0, self.turn_seconds))

    def sleep(self, seconds: float) -> None:
        """Yields the turn like `turn`, for this time. Raises Killed."""
        actor: Actor | None = getattr(self._current, "actor", None)
        assert actor is not None, "only an actor sleeps"
        self._give_up(actor, seconds)

    def _give_up(self, actor: Actor, seconds: float) -> None:
        if actor.killed:
            raise Killed
        actor.wakes = self.now + timedelta(seconds=seconds)
        self.back.release()
        actor.go.acquire()
        if actor.killed:
            raise Killed

    def pause(self, actor: Actor, seconds: float) -> None:
        """The actor does nothing for this time, as after SIGSTOP."""
        actor.wakes = max(actor.wakes, self.now) + timedelta(seconds=seconds)

    def step(self) -> None:
        """Runs the next turn of the actor that wakes first; of any actor among several that are awake."""
        living = [actor for actor in self.actors if not actor.over]
        first = min(actor.wakes for actor in living)
        self.now = max(self.now, first)
        ready = [actor for actor in living if actor.wakes <= self.now + timedelta(seconds=self.turn_seconds / 4)]
        actor = self.random.choice(ready)
        self.turns += 1
        actor.go.release()
        if not self.back.acquire(timeout=LONGEST_TURN_SECONDS):
            raise AssertionError(f"{actor.name} hangs")
        self.actors = [actor for actor in self.actors if not actor.over]
        if actor.error is not None:
            raise AssertionError(f"{actor.name} ended with {actor.error!r}") from actor.error

    def end(self) -> None:
        for actor in [actor for actor in self.actors if not actor.over]:
            actor.killed = True
            actor.go.release()
            self.back.acquire(timeout=LONGEST_TURN_SECONDS)
        self.actors = []
