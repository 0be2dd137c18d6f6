"""The units that an action affects: units that it writes to, and units whose state led to it. Pure."""

from collections.abc import Iterable

from controller.planner.actions import Action, CloseTask, OfferTask, Start, WriteManifest, WritePointers, WriteTask
from controller.snapshot.types import Attempt, StoreSnapshot, members_of
from workloads.api.tasks import GenerateTask, RunnableTask
from workloads.api.units import UnitRef


def concerned_units(actions: Iterable[Action], store: StoreSnapshot) -> tuple[UnitRef, ...]:
    """Returns the units of `store` that the actions affect, each once.

    A final manifest affects all units that are not done. An action that stops or forgets a Job affects none.
    """
    found: dict[UnitRef, None] = {}
    for action in actions:
        found |= dict.fromkeys(unit for unit in _units_of(action, store) if unit in store.units)
    return tuple(found)


def _units_of(action: Action, store: StoreSnapshot) -> Iterable[UnitRef]:
    match action:
        case WriteTask(task=task) | WritePointers(task=task) | Start(task=task):
            return _units_of_task(task)
        case OfferTask(host=host, task=task):
            return (host.unit, *_units_of_task(task))
        case CloseTask(unit=unit, end=end):
            attempt = next((a for a in store.unit(unit).attempts if a.number == end.number), None)
            return (unit,) if attempt is None else (unit, *_in_one_program(attempt, store))
        case WriteManifest(state=state) if state != "running":
            return [unit for unit, view in store.units.items() if not view.done]
        case _:
            return ()


def _units_of_task(task: RunnableTask) -> list[UnitRef]:
    units = [unit for unit, _ in members_of(task)]
    return [*units, task.host.unit] if isinstance(task, GenerateTask) and task.host is not None else units


def _in_one_program(closed: Attempt, store: StoreSnapshot) -> list[UnitRef]:
    """Returns the units with an open attempt in the same group or engine: the outcome of one affects the others."""
    keys = {closed.lead_key}
    for view in store.units.values():
        for attempt in view.open_attempts:
            task = attempt.task
            if isinstance(task, GenerateTask) and task.host is not None and {task.host.key, task.key} & keys:
                keys |= {task.host.key, task.key}
    leads = [
        attempt.task
        for view in store.units.values()
        for attempt in view.attempts
        if attempt.task.key in keys and attempt.task.type != "member"
    ]
    return [unit for task in leads for unit in _units_of_task(task)]
