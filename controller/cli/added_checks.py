"""Check for `potstill doctor`: whether objects that other distributions add to Potstill can be used."""

from collections.abc import Iterator, Sequence
from typing import Any

from controller.cli.checks import Check, blocks, good
from controller.experiment.validate import REGISTRIES
from workloads.registry import Registry, RegistryError


def check_added_parts(registries: Sequence[Registry[Any]] = REGISTRIES) -> Iterator[Check]:
    """Yields a line for each added object, after importing it; none if no distribution adds one."""
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
