"""Removes the parts of Jobs and pods that the controller never reads from the copies."""

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]
POD_FIELDS = ("nodeName", "initContainers", "containers")
CONTAINER_FIELDS = ("name", "image", "resources")


def trim(item: Json) -> None:
    """Removes managedFields. Changes the object, so call it before any other thread can see it."""
    item["metadata"].pop("managedFields", None)


def trim_work(item: Json) -> None:
    """Like `trim`. A Job also loses its pod template, and a pod its spec except node, images and resources."""
    trim(item)
    spec = item.get("spec", {})
    spec.pop("template", None)
    if "containers" in spec:
        kept = {name: spec[name] for name in POD_FIELDS if name in spec}
        for name in ("initContainers", "containers"):
            kept[name] = [{f: one[f] for f in CONTAINER_FIELDS if f in one} for one in kept.get(name) or ()]
        item["spec"] = kept


class Trim:
    """An `Index` that stores nothing and trims each object of a reflector's copy."""

    def put(self, item: Json, /) -> None:
        trim(item)

    def remove(self, _item: Json, /) -> None:
        """The object is deleted anyway."""

    def replace(self, items: Iterable[Json], /) -> None:
        for item in items:
            trim(item)
