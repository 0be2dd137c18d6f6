"""The definition of a family of models: the names of its linear layers, for training and evaluation. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Shape = tuple[int, int]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class ExpertNames:
    """The names of a layer's experts.

    `fused`: the module of transformers that holds the parameters gate_up_proj (E, 2I, H) and down_proj (E, H, I).
    `saved`: where the files hold expert e, as `<saved>.<e>.<gate, up or down>`; adapters use these names too.
    """

    fused: str = "mlp.experts"
    saved: str = "mlp.experts"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"

    @property
    def projections(self) -> tuple[str, str, str]:
        return self.gate, self.up, self.down


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder layer: `query` and `key` are heads times head size, `intermediate` is the width of a
    feed-forward.
    """

    hidden: int
    query: int
    key: int
    intermediate: int


@dataclass(frozen=True)
class ModelFamily:
    """Models of one architecture.

    `architecture`: the class of transformers, as config.json names it. `attention`, `feed_forward`: names of a layer's
    linear modules; `fused_projections`: a module that holds several projections (`qkv_proj`, `gate_up_proj`).
    `experts`: the names of a mixture's experts, else None. `fast`: whether the fast trainer supports the architecture.
    `vllm_lora`: whether vLLM serves adapters of these models. `tiny`: arguments of the model's configuration beside
    TINY_SIZES for the random base of the acceptance test (tests/models).
    """

    name: str
    title: str
    architecture: str
    model_type: str
    attention: tuple[str, ...] = ATTENTION
    feed_forward: tuple[str, ...] = FEED_FORWARD
    fused_projections: bool = False
    experts: ExpertNames | None = None
    fast: bool = False
    vllm_lora: bool = True
    tiny: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Names of linear modules by the kind that `lora.target` states; for experts, the names in the files."""
        kinds = {"attention": self.attention}
        if self.experts is None:
            return kinds | {"mlp": self.feed_forward}
        return kinds | {"experts": self.experts.projections}

    def attention_shapes(self, sizes: Sizes) -> dict[str, Shape]:
        """Returns (out, in) of the attention's linear layers, by name within the layer."""
        if self.fused_projections:
            shapes = [(sizes.query + 2 * sizes.key, sizes.hidden), (sizes.hidden, sizes.query)]
        else:
            shapes = [
                (sizes.query, sizes.hidden),
                (sizes.key, sizes.hidden),
                (sizes.key, sizes.hidden),
                (sizes.hidden, sizes.query),
            ]
        return {f"self_attn.{name}": shape for name, shape in zip(self.attention, shapes, strict=True)}

    def feed_forward_shapes(self, sizes: Sizes) -> dict[str, Shape]:
        """Returns (out, in) of a dense feed-forward's linear layers, by name within the layer."""
        up, down = (sizes.intermediate, sizes.hidden), (sizes.hidden, sizes.intermediate)
        shapes = [(2 * sizes.intermediate, sizes.hidden), down] if self.fused_projections else [up, up, down]
        return {f"mlp.{name}": shape for name, shape in zip(self.feed_forward, shapes, strict=True)}

    def expert_shapes(self, sizes: Sizes, experts: int) -> dict[str, Shape]:
        """Returns (out, in) of the projections of each of a layer's experts, by name within the layer."""
        names = self.experts or ExpertNames()
        up, down = (sizes.intermediate, sizes.hidden), (sizes.hidden, sizes.intermediate)
        return {
            f"{names.saved}.{expert}.{name}": shape
            for expert in range(experts)
            for name, shape in zip(names.projections, (up, up, down), strict=True)
        }
