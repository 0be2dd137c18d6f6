"""Canaries: log-probabilities in a checkpoint's record, with which an engine proves that it applies the adapter."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import nn

from workloads.api.records import Canary
from workloads.data.samples import TrainingData
from workloads.train.packed import pack
from workloads.train.patch import hidden_states

CANARIES = 4
BEFORE_BORDER, AFTER_BORDER = 24, 24
"""Tokens on each side of the border between prompt and response."""


def canary_sequences(data: TrainingData) -> list[tuple[int, ...]]:
    """Returns token ids around the border of prompt and response of the first distinct samples, where the adapter has
    learned.
    """
    found: list[tuple[int, ...]] = []
    for index in dict.fromkeys(data.order):
        ids, border = data.rows.ids(index), int(data.rows.prompt_lengths[index])
        found.append(tuple(ids[max(0, border - BEFORE_BORDER) : border + AFTER_BORDER]))
        if len(found) == CANARIES:
            break
    return found


def log_probs(model: nn.Module, sequences: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
    """Returns natural log-probabilities of each sequence's tokens after its first, by the training's forward, in
    float32.

    It uses one packed batch, because training waits for it.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    batch = pack([(list(sequence), [False] * len(sequence)) for sequence in sequences]).to(head.weight.device)
    with torch.no_grad():
        logits = head(hidden_states(model, batch)).float()
    chosen = logits[:-1].log_softmax(-1).gather(1, batch.input_ids[1:, None])[:, 0].tolist()
    starts = accumulate((len(sequence) for sequence in sequences), initial=0)
    return [tuple(chosen[start : start + len(ids) - 1]) for start, ids in zip(starts, sequences, strict=False)]


def canaries(
    sequences: Sequence[tuple[int, ...]], trained: Sequence[tuple[float, ...]], base: Sequence[tuple[float, ...]]
) -> tuple[Canary, ...]:
    return tuple(
        Canary(token_ids=ids, log_probs=after, base_log_probs=before)
        for ids, after, before in zip(sequences, trained, base, strict=True)
    )
