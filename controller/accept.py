"""Writes the accepted experiment to the store before any of its tasks run."""

from controller.trouble import refuse_newer_manifest
from workloads.accepted import read_experiment
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.storage.base import AlreadyExists, NotFound, Store


def accept(frozen: FrozenExperiment, store: Store) -> FrozenExperiment:
    """Writes the accepted experiment, or a new revision of an experiment that was accepted before.

    Two experiments with one uid8 measure the same thing. They may differ in the locations of files, the limits and the
    profile; the new values replace the old ones. Raises StoreError, also for records that a later version wrote.
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
