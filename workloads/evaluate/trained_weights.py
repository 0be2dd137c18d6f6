"""Downloads checkpoints of full fine-tuning from the store for the engine, one at a time."""

import shutil
from pathlib import Path

from workloads.api.model import sha256_of
from workloads.api.records import Canary, CheckpointRecord
from workloads.api.tasks import CheckpointSource
from workloads.storage.base import Store
from workloads.storage.content_digest import directory_content
from workloads.storage.markers import Corrupt, fetch, read_marker


class TrainedWeights:
    """A folder with the weights of at most one checkpoint, because a pod's disk may not have space for two."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder

    def fetch(self, source: CheckpointSource) -> tuple[Path, tuple[Canary, ...]]:
        """Returns the checkpoint's directory, checked by hash, and its canaries.

        Deletes other weights in the folder.
        """
        marker = read_marker(self._store, source.unit, source.marker)
        record = marker.record if marker is not None else None
        if marker is None or not isinstance(record, CheckpointRecord) or record.model_content != source.content:
            state = f"holds {marker.content[:12]}" if marker else "does not exist"
            raise Corrupt(f"{source.unit}: marker {source.marker} {state}; the task names {source.content}")
        directory = self._folder / sha256_of(source.content.encode())[:16]
        if self._folder.is_dir():
            for other in self._folder.iterdir():
                if other != directory:
                    shutil.rmtree(other)
        fetch(self._store, marker, [file.name for file in marker.files], directory)
        if (found := directory_content(directory)) != source.content:
            raise Corrupt(f"{source.unit}: the files of marker {source.marker} hold {found}, not {source.content}")
        return directory, record.canaries
