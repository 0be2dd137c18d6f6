"""Reads an accepted experiment from the store."""

from pydantic import ValidationError

from workloads.api.experiment import FrozenExperiment
from workloads.storage.base import Store, StoreError
from workloads.storage.markers import first_problem


def read_experiment(store: Store, key: str) -> tuple[FrozenExperiment, str]:
    """Returns the experiment and its etag.

    Raises NotFound, and StoreError for an unreadable record: the message names the file and what to do.
    """
    data, etag = store.get_with_etag(key)
    try:
        return FrozenExperiment.model_validate_json(data), etag
    except ValidationError as error:
        raise StoreError(
            f"{store.url}/{key} is not an experiment that this version can read ({first_problem(error)}): "
            "use the newest potstill that writes to this store. "
            "If the file is damaged, delete it and run again: results stay"
        ) from error
