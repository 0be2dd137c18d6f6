"""Check for `potstill doctor`: what other distributions add to Potstill can be used."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from controller.cli.checks import Check, blocks, good
from controller.experiment.validate import REGISTRIES
from workloads.registry import Registry, RegistryError
from workloads.stages.base import Stage
from workloads.stages.registry import StageError, added_stages


def check_added_parts(
    registries: Sequence[Registry[Any]] = REGISTRIES, find_stages: Callable[[], Sequence[Stage]] = added_stages
) -> Iterator[Check]:
    """A line for each added object, which is imported; none if nothing is added."""
    for registry in registries:
        try:
            names = registry.added
        except RegistryError as error:
            yield blocks(registry.kind, str(error), "docs/development/extensions.md")
            continue
        for name in names:
            try:
                registry.require(name)
            except RegistryError as error:
                yield blocks(registry.kind, str(error), "docs/development/extensions.md")
            else:
                yield good(registry.kind, f"{name} of {registry.version_of(name)}")
    try:
        stages = find_stages()
    except StageError as error:
        yield blocks("stage", str(error), "docs/development/add-a-stage.md")
    else:
        yield from (good("stage", f"{stage.name}, version {stage.version}") for stage in stages)
