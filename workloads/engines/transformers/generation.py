"""Decodes one batch with a transformers model: left padding, a KV cache, finished rows leave the batch.

Each row has its own random seed, so that its samples do not depend on other rows.
"""

import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from workloads.engines.base import Decoding, Finished, Request
from workloads.engines.transformers.cache import make_cache
from workloads.text.tokenizer import TextTokenizer

STOP_TEXT_WINDOW_TOKENS = 64
"""A stop text is searched in the last tokens, this many."""


class DecodingBatch:
    """B requests with one model and one Decoding, from their prompts to their ends."""

    def __init__(self, model: Any, tokenizer: TextTokenizer, requests: Sequence[Request]) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._started = time.monotonic()
        self._requests = list(requests)
        self._decoding: Decoding = requests[0].decoding
        self._generated: list[list[int]] = [[] for _ in requests]
        self._uniforms = _uniforms(requests)
        lengths = [len(request.prompt) for request in requests]
        width = max(lengths)
        device = model.device
        self._next_ids = torch.zeros((len(requests), width), dtype=torch.long, device=device)
        self._mask = torch.zeros((len(requests), width), dtype=torch.long, device=device)
        for row, request in enumerate(requests):
            self._next_ids[row, width - lengths[row] :] = torch.tensor(request.prompt, device=device)
            self._mask[row, width - lengths[row] :] = 1
        self._cache = make_cache(model.config)

    @property
    def rows(self) -> int:
        return len(self._requests)

    @torch.inference_mode()
    def advance(self) -> list[Finished]:
        """Decodes one token for every row. Finished rows leave the batch."""
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -self._next_ids.shape[1] :]
        logits = self._model(
            input_ids=self._next_ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        step = len(self._generated[0])
        chosen = choose(logits, self._decoding, self._uniforms[:, step] if self._uniforms is not None else None)
        chosen_ids = chosen.tolist()
        finished, staying = [], []
        for row, (request, token_id) in enumerate(zip(self._requests, chosen_ids, strict=True)):
            self._generated[row].append(token_id)
            reason = self._end(self._generated[row])
            if reason is None:
                staying.append(row)
            else:
                seconds = time.monotonic() - self._started
                finished.append(Finished(request.id, tuple(self._generated[row]), reason, seconds))
        if staying:
            self._keep(staying, chosen)
        else:
            self._requests = []
        return finished

    def _end(self, token_ids: list[int]) -> Literal["stop", "length"] | None:
        if token_ids[-1] in self._decoding.stop_token_ids:
            return "stop"
        if self._decoding.stop_texts:
            tail = self._tokenizer.decode(token_ids[-STOP_TEXT_WINDOW_TOKENS:])
            if any(text in tail for text in self._decoding.stop_texts):
                return "stop"
        return "length" if len(token_ids) >= self._decoding.limit_tokens else None

    def _keep(self, rows: list[int], chosen: Tensor) -> None:
        if len(rows) < len(self._requests):
            index = torch.tensor(rows, device=chosen.device)
            self._requests = [self._requests[row] for row in rows]
            self._generated = [self._generated[row] for row in rows]
            self._cache.batch_select_indices(index)
            self._mask, chosen = self._mask[index], chosen[index]
            if self._uniforms is not None:
                self._uniforms = self._uniforms[index]
        self._next_ids = chosen[:, None]
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(rows), 1))], dim=1)


def choose(logits: Tensor, decoding: Decoding, uniforms: Tensor | None) -> Tensor:
    """(B, V) logits -> (B,) token ids: the argmax, or by inverse CDF from `uniforms` (B,) in [0, 1).

    top_p keeps the smallest set of most likely tokens whose probabilities sum to at least top_p.
    """
    if decoding.temperature == 0 or uniforms is None:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / decoding.temperature, dim=-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < decoding.top_p, ordered, torch.zeros_like(ordered))
    cumulative = kept.cumsum(dim=-1)
    point = uniforms[:, None].to(cumulative) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, point, right=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, index)[:, 0]


def _uniforms(requests: Sequence[Request]) -> Tensor | None:
    """Returns (B, limit) numbers in [0, 1), each row from its request's seed; None if decoding is greedy."""
    decoding = requests[0].decoding
    if decoding.temperature == 0:
        return None
    rows = []
    for request in requests:
        generator = torch.Generator().manual_seed(request.seed)
        rows.append(torch.rand(decoding.limit_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(rows)
