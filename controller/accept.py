"""Writes an experiment to the store as accepted, before anything of it runs."""

from controller.trouble import refuse_newer_manifest
from workloads.accepted import read_experiment
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.storage.base import AlreadyExists, NotFound, Store


def accept(frozen: FrozenExperiment, store: Store) -> FrozenExperiment:
    """Writes the experiment as accepted, or as a new revision of what was accepted before.

    An experiment of one uid8 asks one question: what may differ is where its files stand, the limits and the profile,
    and there the file as it is now counts. Raises StoreError, also for records that a later version wrote.
    """
    try:
        manifest = store_keys.manifest_key(frozen.name, frozen.uid8)
        refuse_newer_manifest(manifest, store.get(manifest))
    except NotFound:
        pass
    key = store_keys.experiment_key(frozen.name, frozen.uid8)
    try:
        store.put_new(key, frozen.to_json())
    except AlreadyExists:
        standing, etag = read_experiment(store, key)
        same = frozen.model_copy(update={"accepted": standing.accepted, "revision": standing.revision})
        if same == standing:
            return standing
        frozen = same.model_copy(update={"revision": standing.revision + 1})
        store.put_if(key, frozen.to_json(), etag)
    return frozen
