"""Finds the members of a group that this task must run."""

import logging
from collections.abc import Sequence

from workloads.api import store_keys
from workloads.api.tasks import GenerateMember, GenerateTask, pointers
from workloads.storage.base import AlreadyExists, Store
from workloads.storage.markers import read_marker

logger = logging.getLogger("potstill")


def claim_members(store: Store, task: GenerateTask) -> Sequence[GenerateMember]:
    """Returns members whose number belongs to this task, without committed outputs and with an open attempt.

    Writes a missing pointer (the controller may have stopped between writing the task and its pointers). Raises
    StoreError.
    """
    pointer_of = {pointer.unit: pointer for pointer in pointers(task)}
    claimed = []
    for member in task.members:
        pointer = pointer_of.get(member.unit)
        if pointer is not None:
            try:
                store.put_new(pointer.key, pointer.to_json())
            except AlreadyExists:
                logger.info("%s: attempt %d is another task's; it is skipped", member.unit, member.number)
                continue
        if store.head(store_keys.end_key(member.unit, member.number)) is not None:
            logger.info("%s: attempt %d is closed; it is skipped", member.unit, member.number)
        elif read_marker(store, member.unit, store_keys.OUTPUTS) is not None:
            logger.info("%s: its outputs are committed already", member.unit)
        else:
            claimed.append(member)
    return claimed
