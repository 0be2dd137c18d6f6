"""What the copies of objects leave out: who set which field, up to half of an object, is read by nobody here."""

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def trim(item: Json) -> None:
    """Changes the object. Called before any other thread can see it."""
    item["metadata"].pop("managedFields", None)


class Trim:
    """An `Index` that keeps nothing and trims each object of a reflector's copy."""

    def put(self, item: Json, /) -> None:
        trim(item)

    def remove(self, _item: Json, /) -> None:
        """It goes anyway."""

    def replace(self, items: Iterable[Json], /) -> None:
        for item in items:
            trim(item)
