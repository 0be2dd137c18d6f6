"""Predicts the memory of a training step before it starts, and the longest micro-batch that fits.

The prediction adds the tensors that the operators of kernels/ keep. It is checked against the tensors that autograd
really saves (tests/train/kernels/test_memory.py) and against the peak that perf/train measured on an H200.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from workloads.models.memory import ADAPTER_BYTES_PER_PARAMETER, usable_bytes
from workloads.train.kernels.cross_entropy import CHUNK_ROWS
from workloads.train.kernels.fused_lora import room_for

MICRO_BATCH_STEP_TOKENS = 256
MICRO_BATCH_TOKENS = 16_384
"""All measurements used this size, and it keeps a GPU busy (docs/performance.md): longer ones only need more memory."""


@dataclass(frozen=True)
class TrainingSizes:
    """A Qwen3 or Qwen3-MoE model's sizes; experts is 0 for a dense one, whose MLP has `inner`."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    experts: int
    top_k: int
    vocabulary: int
    tied: bool

    @property
    def q_size(self) -> int:
        return self.heads * self.head_size

    @property
    def kv_size(self) -> int:
        return self.kv_heads * self.head_size


def sizes_of(config: Any) -> TrainingSizes:
    """Makes it from a transformers Qwen3Config or Qwen3MoeConfig whose layers are all alike."""
    experts = getattr(config, "num_experts", 0)
    return TrainingSizes(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=config.moe_intermediate_size if experts else config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        experts=experts,
        top_k=getattr(config, "num_experts_per_tok", 0),
        vocabulary=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
    )


@dataclass(frozen=True)
class Memory:
    """Bytes: the frozen model, the adapter with gradient and moments, kept per token, temporary per token, fixed."""

    model: int
    adapter: int
    kept_per_token: int
    passing_per_token: int
    passing_fixed: int

    def total(self, tokens: int) -> int:
        """Returns the bytes for a micro-batch of this many tokens."""
        return self.model + self.adapter + self.passing_fixed + tokens * (self.kept_per_token + self.passing_per_token)


def predict(sizes: TrainingSizes, rank: int, target: Collection[str], element_bytes: int = 2) -> Memory:
    """Returns the memory for LoRA of `rank` on `target` (attention, experts, mlp), the model in `element_bytes` (2:
    bfloat16).
    """
    s = sizes
    attention_rank = rank if "attention" in target else 0
    expert_rank = rank if "experts" in target else 0
    mlp_rank = rank if "mlp" in target else 0
    embeddings = s.vocabulary * s.hidden * (1 if s.tied else 2)
    attention = 2 * s.hidden * s.q_size + 2 * s.hidden * s.kv_size
    if s.experts:
        gate_up = (2 * s.inner + room_for(2 * expert_rank)) * (s.hidden + room_for(2 * expert_rank))
        down = (s.hidden + room_for(expert_rank)) * (s.inner + room_for(expert_rank))
        mlp = s.experts * (gate_up + down + s.hidden)
    else:
        mlp = 3 * s.hidden * s.inner
    adapter = attention_rank * 2 * (2 * s.hidden + s.q_size + s.kv_size)
    adapter += (s.experts * expert_rank + mlp_rank) * 3 * (s.hidden + s.inner)
    return Memory(
        model=element_bytes * (embeddings + s.layers * (attention + mlp)),
        adapter=ADAPTER_BYTES_PER_PARAMETER * s.layers * adapter,
        kept_per_token=s.layers * _kept_per_token(s, attention_rank, expert_rank, mlp_rank, element_bytes),
        passing_per_token=_passing_per_token(s, expert_rank, element_bytes),
        passing_fixed=element_bytes * CHUNK_ROWS * s.vocabulary,
    )


def _kept_per_token(s: TrainingSizes, attention_rank: int, expert_rank: int, mlp_rank: int, element_bytes: int) -> int:
    """Bytes of one layer: tensors that attention_block and expert_block or mlp_block save for the backward pass."""
    attention = s.hidden + 2 * s.q_size + 2 * s.kv_size + 4 * attention_rank
    log_sums = 4 * s.heads
    if s.experts:
        mlp = s.hidden + s.experts + s.top_k * (2 * s.inner + room_for(2 * expert_rank) + room_for(expert_rank))
        routes = 8 * s.top_k
    else:
        mlp = s.hidden + 2 * s.inner + 3 * mlp_rank
        routes = 0
    return element_bytes * (attention + mlp) + log_sums + routes


def _passing_per_token(s: TrainingSizes, expert_rank: int, element_bytes: int) -> int:
    """The most temporary bytes of one layer's backward pass, in addition to the kept ones."""
    if s.experts:
        experts = max(
            (s.hidden + expert_rank) + 4 * s.inner + 2 * expert_rank, 2 * s.hidden + 2 * s.inner + 2 * expert_rank
        )
        mlp = s.top_k * experts
    else:
        mlp = 4 * s.inner
    attention = 6 * s.q_size + 4 * s.kv_size
    return element_bytes * (max(mlp, attention) + 3 * s.hidden)


def largest_micro_batch(memory: Memory, device_bytes: int, ranks: int = 1) -> int:
    """Returns the most tokens of a micro-batch that fit on a device of `device_bytes`; 0 if not even the model fits."""
    room = usable_bytes(device_bytes, ranks) - memory.total(0)
    per_token = memory.kept_per_token + memory.passing_per_token
    return max(0, room // per_token // MICRO_BATCH_STEP_TOKENS * MICRO_BATCH_STEP_TOKENS)


def micro_batch_tokens(memory: Memory, device_bytes: int, sequence_tokens: int, ranks: int = 1) -> int:
    """Returns the tokens of a micro-batch: MICRO_BATCH_TOKENS, fewer if they do not fit, more for a longer sequence.

    Raises ValueError when one sequence of `sequence_tokens` would not fit.
    """
    largest = check_sequence_fits(memory, device_bytes, sequence_tokens, ranks)
    return min(largest, max(sequence_tokens, MICRO_BATCH_TOKENS))


def check_sequence_fits(memory: Memory, device_bytes: int, sequence_tokens: int, ranks: int = 1) -> int:
    """The largest micro-batch in tokens. Raises ValueError when one sequence of `sequence_tokens` would not fit.

    A micro-batch of at most that many tokens never runs out of memory, whatever the documents in it.
    """
    largest = largest_micro_batch(memory, device_bytes, ranks)
    if largest < sequence_tokens:
        parts = {
            "the model": memory.model,
            "the adapter with its gradient and optimizer": memory.adapter,
            f"{sequence_tokens} tokens": memory.total(sequence_tokens) - memory.total(0),
            "the head": memory.passing_fixed,
        }
        needs = ", ".join(f"{name} {size / 2**30:.1f} GiB" for name, size in parts.items())
        raise ValueError(
            f"a sequence of {sequence_tokens} tokens does not fit on this device: {needs}, of "
            f"{usable_bytes(device_bytes, ranks) / 2**30:.1f} GiB usable; sequenceTokens up to {largest} would fit, "
            "or lower the lora rank or its targets"
        )
    return largest
