"""Checks before the first step whether the base can produce the special tokens that the data teaches it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workloads.data.end_token import EndToken
from workloads.data.samples import TrainingData
from workloads.text.tokenizer import TextTokenizer
from workloads.train.trainer import Trainer

SMALL_NORM = 0.5
"""A share of the median row's norm. A row that pre-training never changed keeps the small norm of its
initialisation.
"""
SAMPLES = 8


def special_tokens(tokenizer: TextTokenizer, end: EndToken) -> dict[int, str]:
    """Returns the end token, and the thinking tags if each is one token."""
    tags = {tokenizer.token_id(tag): tag for tag in ("<think>", "</think>")}
    return {end.token_id: end.text} | {token: tag for token, tag in tags.items() if token is not None}


def preflight(trainer: Trainer, data: TrainingData, tokens: dict[int, str]) -> list[str]:
    """Returns warnings by name, for the base without adapter: small rows, and tokens less probable than chance at
    supervised places.

    Embeddings and head are frozen: LoRA cannot change a row, only the hidden state.
    """
    taught = _taught_log_probs(trainer, data, list(tokens))
    embedding_weight, head_weight = trainer.token_matrices()
    embedding = _relative_norms(embedding_weight, list(tokens))
    head = _relative_norms(head_weight, list(tokens))
    chance = -math.log(head_weight.shape[0])
    found: list[str] = []
    for token, text in tokens.items():
        if not taught[token]:
            continue
        mean = sum(taught[token]) / len(taught[token])
        facts = (
            f"{text} (token {token}): embedding row {embedding[token]:.2f} and head row {head[token]:.2f} of the "
            f"median norm, mean log-probability {mean:.1f} where the data has it (chance is {chance:.1f})"
        )
        if min(embedding[token], head[token]) < SMALL_NORM:
            found.append(f"UntrainedToken: {facts}: the base may never produce it")
        elif mean < chance:
            found.append(f"UnlikelyToken: {facts}: check that the base knows this format")
    return found


def _relative_norms(weight: Tensor, tokens: Sequence[int]) -> dict[int, float]:
    norms = torch.linalg.vector_norm(weight.detach().float(), dim=1)
    median = float(norms.median())
    return {token: float(norms[token]) / median for token in tokens}


def _taught_log_probs(trainer: Trainer, data: TrainingData, tokens: Sequence[int]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {token: [] for token in tokens}
    for index in list(dict.fromkeys(data.order))[:SAMPLES]:
        ids = data.rows.ids(index)
        places = [place for place in data.rows.targets(index).tolist() if ids[place] in found]
        if not places:
            continue
        for place, score in zip(places, trainer.log_probs_at(ids, places), strict=True):
            found[ids[place]].append(score)
    return found
