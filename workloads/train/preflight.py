"""Before the first step: would the base ever produce the special tokens that the data teaches it?"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workloads.data.end_token import EndToken
from workloads.data.samples import TrainingData
from workloads.text.tokenizer import TextTokenizer
from workloads.train.packed import pack
from workloads.train.patch import per_document_hidden_states

SMALL_NORM = 0.5
"""Of the median row: a row that pre-training never moved keeps the small norm of its initialisation."""
SAMPLES = 8


def special_tokens(tokenizer: TextTokenizer, end: EndToken) -> dict[int, str]:
    """The end token, and the thinking tags where they are one token."""
    tags = {tokenizer.token_id(tag): tag for tag in ("<think>", "</think>")}
    return {end.token_id: end.text} | {token: tag for token, tag in tags.items() if token is not None}


def preflight(model: nn.Module, data: TrainingData, tokens: dict[int, str]) -> list[str]:
    """Warnings by name, for the base without adapter: small rows, and tokens less probable than chance where taught.

    Embeddings and head are frozen: LoRA cannot repair a row, only push the hidden state towards it.
    """
    taught = _taught_log_probs(model, data, list(tokens))
    embedding = _relative_norms(model.get_input_embeddings().weight, list(tokens))  # type: ignore[operator]
    head = _relative_norms(model.get_output_embeddings().weight, list(tokens))  # type: ignore[operator]
    chance = -math.log(model.get_output_embeddings().weight.shape[0])  # type: ignore[operator]
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


def _taught_log_probs(model: nn.Module, data: TrainingData, tokens: Sequence[int]) -> dict[int, list[float]]:
    head = model.get_output_embeddings()  # type: ignore[operator]
    found: dict[int, list[float]] = {token: [] for token in tokens}
    for index in list(dict.fromkeys(data.order))[:SAMPLES]:
        ids, border = data.rows.ids(index), int(data.rows.prompt_lengths[index])
        places = [place for place in range(border, len(ids)) if ids[place] in found]
        if not places:
            continue
        batch = pack([(ids, [False] * len(ids))]).to(head.weight.device)
        with torch.no_grad():
            hidden = per_document_hidden_states(model, batch)
            logits = head(hidden[[place - 1 for place in places]]).float().log_softmax(-1)
        for row, place in enumerate(places):
            found[ids[place]].append(float(logits[row, ids[place]]))
    return found
