"""Removes the parts of Jobs and pods that the controller never reads from the copies."""

import sys
from functools import lru_cache
from typing import Any

Json = dict[str, Any]
POD_FIELDS = ("nodeName", "initContainers", "containers")
CONTAINER_FIELDS = ("name", "image", "resources")
MOST_VALUES = 20_000
"""Most strings that are remembered, to be shared with later copies. Some, such as resource versions, occur once."""


def trimmed(item: Json) -> Json:
    """Returns a copy without managedFields. Copies share their strings (field names, labels, images); a parser makes
    new ones for each answer.
    """
    metadata = {field: value for field, value in item["metadata"].items() if field != "managedFields"}
    copy: Json = _sharing_strings({**item, "metadata": metadata})
    return copy


def trimmed_work(item: Json) -> Json:
    """Returns what `trimmed` does, but a Job without its pod template, and of a pod's spec only node, images and
    resources.
    """
    spec = {field: value for field, value in item.get("spec", {}).items() if field != "template"}
    if "containers" in spec:
        spec = {field: spec[field] for field in POD_FIELDS if field in spec}
        for field in ("initContainers", "containers"):
            spec[field] = [{f: one[f] for f in CONTAINER_FIELDS if f in one} for one in spec.get(field) or ()]
    return trimmed({**item, "spec": spec} if "spec" in item else item)


def _sharing_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(name): _sharing_strings(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_sharing_strings(inner) for inner in value]
    return _shared(value) if isinstance(value, str) else value


@lru_cache(MOST_VALUES)
def _shared(value: str) -> str:
    return value
