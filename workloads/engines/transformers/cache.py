"""A key-value cache that grows by doubling, so that a new token does not copy all earlier ones."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

FIRST_TOKENS = 64


class GrowingLayer(DynamicLayer):
    """`keys` and `values` (B, G, T, D) are views of the filled part of larger buffers."""

    _key_buffer: Tensor | None = None
    _value_buffer: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends (B, G, N, D) each; returns the keys and values of all T + N tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled = self.get_seq_length()
        wanted = filled + key_states.shape[-2]
        self._key_buffer = _with_room(self._key_buffer, self.keys, key_states, filled, wanted)
        self._value_buffer = _with_room(self._value_buffer, self.values, value_states, filled, wanted)
        self.keys, self.values = self._key_buffer[:, :, :wanted], self._value_buffer[:, :, :wanted]
        return self.keys, self.values


def _with_room(buffer: Tensor | None, held: Tensor | None, added: Tensor, filled: int, wanted: int) -> Tensor:
    """Returns the buffer, or a larger one (or one of fewer rows) with the old content, with `added` in its place."""
    rows, groups, _, size = added.shape
    if buffer is None or buffer.shape[0] != rows or buffer.shape[2] < wanted:
        buffer = added.new_empty((rows, groups, max(FIRST_TOKENS, 2 * wanted), size))
        if held is not None and filled:
            buffer[:, :, :filled] = held
    buffer[:, :, filled:wanted] = added
    return buffer


def make_cache(config: Any) -> Cache:
    """Returns growing layers for a model with full attention throughout, otherwise transformers' own cache."""
    usual = DynamicCache(config=config)
    if all(type(layer) is DynamicLayer for layer in usual.layers):
        make_layer: Callable[[], DynamicLayer] = GrowingLayer
        return Cache(layers=[make_layer() for _ in usual.layers])
    return usual
