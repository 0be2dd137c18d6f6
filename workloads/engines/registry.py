"""Engines by name. A new one is an entry here, or an entry point in `potstill.engines`."""

from workloads.engines.base import EngineDefinition
from workloads.engines.transformers.definition import TRANSFORMERS
from workloads.engines.vllm.definition import VLLM
from workloads.registry import Registry

ENGINES = Registry[EngineDefinition](
    "engine", "potstill.engines", EngineDefinition, {one.name: one for one in (TRANSFORMERS, VLLM)}
)
