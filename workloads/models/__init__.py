"""The families of models that Potstill supports, one file each.

A new family is a file here and its name in FAMILIES, or an entry point of another distribution in `potstill.models`.
"""

from collections.abc import Mapping
from typing import Any

from workloads.models import (
    gemma2,
    gemma3,
    granite,
    llama,
    mistral,
    mixtral,
    olmo2,
    olmo3,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    smollm3,
)
from workloads.models.base import ModelFamily
from workloads.registry import Registry

FAMILIES = Registry[ModelFamily](
    "model family",
    "potstill.models",
    ModelFamily,
    {
        module.FAMILY.architecture: module.FAMILY
        for module in (
            llama,
            qwen2,
            qwen3,
            qwen3_moe,
            mistral,
            mixtral,
            gemma2,
            gemma3,
            phi3,
            olmo2,
            olmo3,
            smollm3,
            granite,
        )
    },
    named_by="architecture",
)
"""Families by architecture. Each built-in one passes the acceptance test of tests/models."""


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """Returns the first architecture of a config.json; None if it names none."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return first if isinstance(first, str) else None


def family_of(config: Mapping[str, Any]) -> ModelFamily | None:
    """Returns the family of a model from its config.json; None for an architecture that is not in FAMILIES."""
    return FAMILIES.get(architecture_of(config) or "")


def has_fast_trainer(architecture: str | None) -> bool:
    family = FAMILIES.get(architecture or "")
    return family is not None and family.fast
