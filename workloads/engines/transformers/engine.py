"""The transformers engine, for laptops and tests: one adapter at a time is merged into the weights.

A batch never mixes evaluations, and its rows do not depend on the rest of the queue, so an evaluation's outputs do not
depend on its group (on a CPU with one thread they are bit-equal in each run).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from workloads.engines.base import Adapter, BadAdapter, BadFlag, Demands, Finished, Request, nothing
from workloads.engines.transformers.adapter_merge import MergedAdapter
from workloads.engines.transformers.attention import attention_of
from workloads.engines.transformers.generation import DecodingBatch
from workloads.models.shapes import read_shapes
from workloads.text.tokenizer import TextTokenizer

FLAGS = {"batch_rows": int, "batch_invariant": bool}
BATCH_ROWS = 64
TOKENS_PER_STEP = 16


class TransformersEngine:
    """`flags`: batch_rows, the largest number of rows decoded at a time; batch_invariant, which sets it to one.

    `merges`: whether there is memory for a copy of the weights that adapters change. Raises BadFlag.
    """

    one_adapter_at_a_time = True

    def __init__(
        self,
        directory: Path,
        tokenizer: TextTokenizer,
        dtype: str,
        flags: dict[str, str | int | float | bool],
        device: str = "cpu",
        *,
        merges: bool = True,
    ) -> None:
        for name, value in flags.items():
            kind = FLAGS.get(name)
            if type(value) is not kind:
                known = f"must be of type {kind.__name__}" if kind else f"it has only {' and '.join(FLAGS)}"
                raise BadFlag(f"engine transformers: flag {name} is {value!r}; {known}")
        self._batch_rows = 1 if flags.get("batch_invariant") else int(flags.get("batch_rows", BATCH_ROWS))
        if self._batch_rows < 1:
            raise BadFlag(f"engine transformers: flag batch_rows is {self._batch_rows}; it must be 1 or more")
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            config=config,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=attention_of(config),
        )
        model.train(False).requires_grad_(False).to(device)
        self._model = model
        self._tokenizer = tokenizer
        self._merged = MergedAdapter(model, read_shapes(directory))
        self._merges = merges
        self._waiting: list[Request] = []
        self._batch: DecodingBatch | None = None
        self._generated_tokens = 0

    @property
    def versions(self) -> dict[str, str]:
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    @property
    def flags(self) -> dict[str, str | int | float | bool]:
        return {
            "batch_rows": self._batch_rows,
            "attention": str(self._model.config._attn_implementation),
            "threads": torch.get_num_threads(),
        }

    @property
    def generated_tokens(self) -> int:
        return self._generated_tokens

    @property
    def pending(self) -> int:
        return len(self._waiting) + (self._batch.rows if self._batch else 0)

    def accepts(self, demands: Demands) -> bool:
        return self._merges or not demands.rank

    def wants(self, adapter: Adapter | None, /) -> bool:
        return not self.pending or (adapter.name if adapter else None) == self._merged.merged

    def room(self, _requests: int, /) -> int:
        return 0

    def load(self, adapter: Adapter) -> None:
        """Merges the adapter; if a batch runs, when its turn comes."""
        if self._batch is None:
            self._merged.merge(adapter)

    @torch.inference_mode()
    def log_probs(
        self, sequences: Sequence[Sequence[int]], adapter: Adapter | None, tick: Callable[[], None] = nothing
    ) -> list[tuple[float, ...]]:
        if self._batch is not None:
            raise RuntimeError("log_probs while a batch is under way would change its weights")
        self._merged.merge(adapter)
        found: list[tuple[float, ...]] = []
        for sequence in sequences:
            tick()
            token_ids = torch.tensor([list(sequence)], device=self._model.device)
            logits = self._model(input_ids=token_ids, use_cache=False).logits[0, :-1]
            scores = torch.log_softmax(logits.float(), dim=-1)
            found.append(tuple(scores.gather(-1, token_ids[0, 1:, None])[:, 0].tolist()))
        return found

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def step(self) -> list[Finished]:
        """Decodes up to TOKENS_PER_STEP tokens for every row of the batch; the next batch starts when this one has
        ended.
        """
        if self._batch is None:
            chosen = self._next_rows()
            try:
                self._merged.merge(chosen[0].adapter)
            except BadAdapter as error:
                return [Finished(request.id, (), "error", 0.0, str(error)) for request in chosen]
            self._batch = DecodingBatch(self._model, self._tokenizer, chosen)
        finished: list[Finished] = []
        for _ in range(TOKENS_PER_STEP):
            self._generated_tokens += self._batch.rows
            finished += self._batch.advance()
            if not self._batch.rows:
                self._batch = None
                break
        return finished

    def _next_rows(self) -> list[Request]:
        """Returns requests of the first waiting evaluation, the longest prompts first, so that the rows of a batch are
        similar.
        """
        first = self._waiting[0]
        alike = [
            request
            for request in self._waiting
            if (request.group, request.adapter, request.decoding) == (first.group, first.adapter, first.decoding)
        ]
        chosen = sorted(alike, key=lambda request: (-len(request.prompt), request.id))[: self._batch_rows]
        taken = {request.id for request in chosen}
        self._waiting = [request for request in self._waiting if request.id not in taken]
        return chosen

    def close(self) -> None:
        self._waiting, self._batch = [], None
