"""Names of a base's modules: by its family, or without one by the names of its weights. No torch."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workloads.api.tasks import ModelSource
from workloads.models import architecture_of, family_of
from workloads.models.files import why_hub_unreachable
from workloads.models.shapes import NOT_ADAPTED, ModelShapes
from workloads.models.weight_files import INDEX, BadWeightFiles, names_in_index
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, hub_errors, localise_model_file
from workloads.storage.registry import is_in_store


@dataclass(frozen=True)
class LayerNames:
    """`all`: last parts of modules' names that have a weight; `linear`: those that an adapter is likely to change.

    `classes`: without a family, names under which transformers may have a table that renames weights.
    """

    all: frozenset[str]
    linear: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def may_be_renamed(self, name: str) -> bool:
        """Returns whether transformers may rename a weight to `name` as it loads it; True if it is not installed."""
        return self._made_names is None or any(name in made for made in self._made_names)

    @cached_property
    def _made_names(self) -> tuple[str, ...] | None:
        if not self.classes:
            return ()
        try:
            from transformers.conversion_mapping import get_checkpoint_conversion_mapping
        except ImportError:
            return None
        tables = (get_checkpoint_conversion_mapping(name) or () for name in self.classes)
        return tuple(str(made) for table in tables for change in table for made in change.target_patterns)


def layer_names(base: ModelSource, config: Mapping[str, Any], shapes: ModelShapes) -> LayerNames | None:
    """Returns the names of the base's layers, or None if nothing can be read.

    For a family they are the names outside of experts. Otherwise they come from the weights on this machine, or from
    the index of a base with several files, which is fetched if necessary.
    """
    if family_of(config) is not None:
        dense = sorted({layer.rpartition(".")[2] for layer in shapes.linear() if ".experts." not in layer})
        return LayerNames(frozenset(dense), tuple(dense))
    classes = tuple(_classes(config))
    if shapes.from_files is not None:
        linear = tuple(sorted({layer.rpartition(".")[2] for layer in shapes.from_files}))
        return LayerNames(frozenset({*linear, *NOT_ADAPTED}), linear, classes)
    tensors = _names_in_index(base)
    if tensors is None:
        return None
    modules = {name.removesuffix(".weight").rpartition(".")[2] for name in tensors if name.endswith(".weight")}
    linear = tuple(sorted(name for name in modules if name not in NOT_ADAPTED and "norm" not in name))
    return LayerNames(frozenset(modules), linear, classes)


def _names_in_index(base: ModelSource) -> Iterable[str] | None:
    try:
        if is_in_store(base.location):
            with tempfile.TemporaryDirectory() as folder:
                return names_in_index(localise_model_file(base, INDEX, Path(folder)))
        if base.location.startswith("hub://"):
            path = _index_of_hub(base)
            return None if path is None else names_in_index(path)
    except (BadWeightFiles, ContentError, StoreError):
        pass
    return None


def _index_of_hub(base: ModelSource) -> Path | None:
    """Raises ContentError, StoreError."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    name, _, revision = base.location.removeprefix("hub://").partition("@")
    cached = try_to_load_from_cache(name, INDEX, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None or why_hub_unreachable() is not None:
        return None
    with hub_errors(base.location):
        try:
            return Path(hf_hub_download(name, INDEX, revision=revision))
        except EntryNotFoundError:
            return None


def _classes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields the names of the architecture and of the model inside it, and the types of its parts."""
    architecture = architecture_of(config)
    if architecture is not None:
        yield architecture
        yield architecture.partition("For")[0] + "Model"
    for value in (config, *config.values()):
        if isinstance(value, Mapping) and isinstance(value.get("model_type"), str):
            yield value["model_type"]
