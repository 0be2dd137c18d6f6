"""The base class of all stored models: immutable, closed, and with one canonical JSON form."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

_STATED: dict[frozenset[str], set[str]] = {}
"""Each set of stated fields that a model of this process has had."""


class Contract(BaseModel):
    """Frozen and closed: an unknown field is an error, because a reader that ignored it would act on an incomplete
    order.

    Field names are snake_case in Python and camelCase in JSON, like the experiment file.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    def model_post_init(self, _: Any) -> None:
        """Lets models with the same stated fields share the set of their names, which no frozen model changes.

        In pydantic each model has its own set, which takes nearly half the memory of a task or marker.
        """
        stated = self.__pydantic_fields_set__
        object.__setattr__(self, "__pydantic_fields_set__", _STATED.setdefault(frozenset(stated), stated))

    def to_json(self) -> bytes:
        """Returns canonical JSON with a final newline: equal models give equal bytes."""
        return canonical_json(self.model_dump(mode="json", by_alias=True)) + b"\n"


def canonical_json(value: Any) -> bytes:
    """Returns UTF-8 JSON with sorted keys and without spaces; floats as Python's shortest repr.

    Raises ValueError for NaN.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def schema_version_of(data: bytes) -> int | None:
    """Returns the schemaVersion of a record's JSON; None if `data` is not a JSON object with an integer
    schemaVersion.
    """
    try:
        record = json.loads(data)
    except ValueError:
        return None
    version = record.get("schemaVersion") if isinstance(record, dict) else None
    return version if isinstance(version, int) else None


def sha256_of(data: bytes) -> str:
    """Returns 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(model: Contract) -> str:
    """Returns the digest of a model: SHA-256 of its canonical JSON, 64 hex digits."""
    return sha256_of(canonical_json(model.model_dump(mode="json", by_alias=True)))
