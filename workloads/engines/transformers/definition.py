"""The transformers engine's entry in the registry. It computes the needed memory before it starts."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from workloads.api.units import EngineIdentity
from workloads.engines.base import Demands, Engine, EngineDefinition
from workloads.engines.memory import MemoryPlan, available_host_bytes, plan_memory, weight_bytes
from workloads.models.shapes import ModelShapes

if TYPE_CHECKING:  # only programs need the tokenizers library
    from workloads.text.tokenizer import TextTokenizer

logger = logging.getLogger("potstill")


class TransformersDefinition(EngineDefinition):
    name = "transformers"
    distributions = ("transformers",)

    def start(
        self,
        asked: EngineIdentity,
        directory: Path,
        shapes: ModelShapes,
        tokenizer: "TextTokenizer",
        demands: Demands,
    ) -> Engine:
        """Merging keeps a copy of the changed weights, at most as large as the base. Raises BadFlag, DoesNotFit."""
        from workloads.engines.transformers.engine import BATCH_ROWS, TransformersEngine

        merges = True
        if asked.gpu == "cpu":
            room = available_host_bytes()

            def reckon(weights: int) -> MemoryPlan:
                return plan_memory(
                    shapes,
                    weights,
                    asked.dtype,
                    room,
                    slots=0,
                    max_rank=0,
                    longest_tokens=demands.longest_tokens,
                    batch_tokens=demands.longest_tokens,
                    rows=BATCH_ROWS,
                )

            weights = weight_bytes(directory, asked.dtype)
            plan = reckon(2 * weights)
            merges = plan.full_length_rows >= 1
            if not merges and not demands.rank:
                plan = reckon(weights)
            plan.check()
            logger.info("%s", plan)
        device = "cpu" if asked.gpu == "cpu" else "cuda"
        return TransformersEngine(directory, tokenizer, asked.dtype, dict(asked.flags), device, merges=merges)


TRANSFORMERS = TransformersDefinition()
