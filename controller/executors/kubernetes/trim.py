"""What the copies of objects leave out: most of a Job and of a pod is read by nothing here."""

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]
POD_FIELDS = ("nodeName", "initContainers", "containers")
CONTAINER_FIELDS = ("name", "image", "resources")


def trim(item: Json) -> None:
    """Takes managedFields away. Changes the object: called before any other thread can see it."""
    item["metadata"].pop("managedFields", None)


def trim_work(item: Json) -> None:
    """As `trim`. A Job also loses its pod template, a pod all of its spec but node, images and resources."""
    trim(item)
    spec = item.get("spec", {})
    spec.pop("template", None)
    if "containers" in spec:
        kept = {name: spec[name] for name in POD_FIELDS if name in spec}
        for name in ("initContainers", "containers"):
            kept[name] = [{f: one[f] for f in CONTAINER_FIELDS if f in one} for one in kept.get(name) or ()]
        item["spec"] = kept


class Trim:
    """An `Index` that keeps nothing and trims each object of a reflector's copy."""

    def put(self, item: Json, /) -> None:
        trim(item)

    def remove(self, _item: Json, /) -> None:
        """It goes anyway."""

    def replace(self, items: Iterable[Json], /) -> None:
        for item in items:
            trim(item)
