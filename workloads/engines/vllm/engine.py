"""The vLLM engine: all benchmarks and adapters in one continuous batch. vLLM's core runs in a separate process.

Written for vLLM 0.26 to 0.32: LLMEngine with prompts and outputs as token ids, no tokenizer inside.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch

from workloads.api.units import EngineIdentity
from workloads.engines.base import Adapter, BadAdapter, Decoding, Demands, Finished, Request, nothing
from workloads.engines.memory import BYTES, weight_bytes
from workloads.engines.merged_engine import MergedEngine
from workloads.engines.merged_weights import MergedWeights, check_finite
from workloads.engines.transformers.admission import Admission
from workloads.engines.vllm.config import VllmSettings, as_flags, complete, parse_flags, with_room
from workloads.engines.vllm.fork_server import import_ahead
from workloads.engines.vllm.startup import find_versions, gpu_bytes, kept_graphs, make_engine, plan, with_loader
from workloads.engines.vllm.warm_up import warm_up
from workloads.engines.watchdog import forget_stacks
from workloads.models.shapes import ModelShapes
from workloads.text.tokenizer import TextTokenizer

logger = logging.getLogger("potstill")
STOP_TEXT_WINDOW_TOKENS = 64


@dataclass
class Running:
    request: Request
    started: float
    token_ids: list[int] = field(default_factory=list)


class VllmEngine:
    """Make it with `start`. With the flag merge_adapters it serves one adapter at a time."""

    one_adapter_at_a_time = False

    def __init__(
        self,
        inner: Any,
        directory: Path,
        asked: VllmSettings,
        settings: VllmSettings,
        tokenizer: TextTokenizer,
        versions: dict[str, str],
        admission: Admission,
    ) -> None:
        self._inner = inner
        self._asked = asked
        self._directory = directory
        self._settings = settings
        self._tokenizer = tokenizer
        self._versions = versions
        self.admission = admission
        self._running: dict[str, Running] = {}
        self._finished: list[Finished] = []
        self._scores: dict[str, tuple[float, ...]] = {}
        self._adapter_numbers: dict[str, int] = {}
        self._adapters: Counter[str] = Counter()
        """The number of pending requests of each adapter."""
        self._score_names = (f"canary/{number}" for number in count())
        self._generated_tokens = 0

    @classmethod
    def start(
        cls,
        asked: EngineIdentity,
        directory: Path,
        shapes: ModelShapes,
        tokenizer: TextTokenizer,
        demands: Demands,
    ) -> "VllmEngine | MergedEngine":
        """Raises BadFlag, BadBase, DoesNotFit. Any error of vLLM after it accepted its arguments is a crash."""
        flags, on_gpu = parse_flags(dict(asked.flags)), asked.gpu != "cpu"
        settings = complete(flags, demands, shapes.context_tokens)
        import_ahead(settings)
        dummy = settings.load_format == "dummy"
        weights = shapes.parameters * BYTES[asked.dtype] if dummy else weight_bytes(directory, asked.dtype)
        room = 0
        if settings.merge_adapters and not dummy:
            merged = MergedWeights.open(directory, shapes, getattr(torch, asked.dtype), torch.device("cpu"))
            if on_gpu:
                room = merged.room_bytes()
                settings = with_room(settings, room, gpu_bytes())
        memory = plan(settings, shapes, weights, asked.dtype, demands.longest_tokens, on_gpu, room)
        logger.info("%s", memory)
        memory.check()
        if memory.remedies:
            logger.warning("few requests fit at a time, which is slow; these help: %s", "; ".join(memory.remedies))
        if on_gpu:
            settings = with_loader(settings, directory, memory)
        versions = find_versions(on_gpu)
        with kept_graphs(settings, directory, asked.dtype, versions):
            inner = make_engine(settings, directory, shapes, asked.dtype, memory, on_gpu)
            if on_gpu:
                warm_up(inner, settings, shapes, asked.dtype)
        inner.collective_rpc("potstill_listen", args=(os.getpid(),))
        mend = mend_of(settings, shapes, on_gpu)
        if mend is not None:
            inner.collective_rpc(mend)
        admission = Admission(settings.max_num_seqs, memory.full_length_rows)
        engine = cls(inner, directory, flags, settings, tokenizer, versions, admission)
        return MergedEngine(engine) if settings.merge_adapters else engine

    @property
    def versions(self) -> dict[str, str]:
        return self._versions

    @property
    def flags(self) -> dict[str, str | int | float | bool]:
        return as_flags(self._settings)

    @property
    def generated_tokens(self) -> int:
        return self._generated_tokens

    @property
    def pending(self) -> int:
        return len(self.admission) + self.under_way + len(self._finished)

    @property
    def under_way(self) -> int:
        """The number of requests in vLLM: submitted, admitted to its batch, and not finished."""
        return len(self._running)

    def accepts(self, demands: Demands) -> bool:
        """Returns whether the engine can run the group. Limits by the task's own flags do not count, because another
        engine has the same flags.

        A length above the flags' limit is refused at the start.
        """
        asked, settings = self._asked, self._settings
        length = demands.longest_tokens <= settings.max_model_len
        rank = asked.max_lora_rank or demands.rank <= settings.max_lora_rank
        target = asked.lora_target or settings.lora_target in ("all", demands.target)
        return bool(length and (settings.merge_adapters or (rank and target)))

    def wants(self, adapter: Adapter | None, /) -> bool:
        slots = self._settings.max_loras
        return self.admission.wants(self.under_way) and (
            adapter is None or adapter.name in self._adapters or len(self._adapters) < slots
        )

    def room(self, requests: int, /) -> int:
        slots = self._settings.max_loras - len(self._adapters)
        return max(0, min(slots, self.admission.room(self.under_way, requests)))

    def merge(self, adapter: Adapter | None) -> None:
        if adapter is not None:
            check_finite(adapter)
        started = time.monotonic()
        place = str(adapter.directory) if adapter else None
        self._inner.collective_rpc("potstill_merge", args=(str(self._directory), place))
        if not self._inner.reset_prefix_cache():
            raise RuntimeError("vLLM keeps keys and values of the weights before: requests are under way")
        name = adapter.name[:12] if adapter else "nothing"
        logger.info("merged %s into the base in %.1f s", name, time.monotonic() - started)

    def load(self, adapter: Adapter) -> None:
        if adapter.rank > self._settings.max_lora_rank:
            raise BadAdapter(f"its rank is {adapter.rank}, this engine takes up to {self._settings.max_lora_rank}")
        if self._settings.lora_target not in ("all", adapter.target):
            raise BadAdapter("it changes layers outside the attention, where this engine has no slots (lora_target)")
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            self._inner.add_lora(self._lora(adapter))
        except EngineDeadError:
            raise
        except Exception as error:  # vLLM's core reports any error of the adapter as a plain Exception
            raise BadAdapter(f"vLLM cannot load it: {error}") from error

    def log_probs(
        self, sequences: Sequence[Sequence[int]], adapter: Adapter | None, tick: Callable[[], None] = nothing
    ) -> list[tuple[float, ...]]:
        from vllm import SamplingParams

        names = [next(self._score_names) for _ in sequences]
        for name, sequence in zip(names, sequences, strict=True):
            params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
            prompt = {"prompt_token_ids": list(sequence)}
            self._inner.add_request(name, prompt, params, lora_request=self._lora(adapter))
        while not all(name in self._scores for name in names):
            tick()
            self._work()
        return [self._scores.pop(name) for name in names]

    def submit(self, request: Request) -> None:
        self.admission.put(request)
        if request.adapter is not None:
            self._adapters[request.adapter.name] += 1

    def step(self) -> list[Finished]:
        for request in self.admission.take(self.under_way):
            self._admit(request)
        if not self._finished:
            self._work()
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        self._inner.engine_core.shutdown()
        forget_stacks()

    def _lora(self, adapter: Adapter | None) -> Any:
        if adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        number = self._adapter_numbers.setdefault(adapter.name, len(self._adapter_numbers) + 1)
        return LoRARequest(adapter.name, number, str(adapter.directory))

    def _admit(self, request: Request) -> None:
        self._running[request.id] = Running(request, time.monotonic())
        try:
            self._inner.add_request(
                request.id,
                {"prompt_token_ids": list(request.prompt)},
                sampling_params(request),
                lora_request=self._lora(request.adapter),
            )
        except request_refusals() as error:
            self._end(request.id, "error", str(error))

    def _work(self) -> None:
        """Runs one step of vLLM: new tokens of some requests."""
        for output in self._inner.step():
            name, completion = output.request_id, output.outputs[0]
            if name not in self._running:
                if output.finished and output.prompt_logprobs is not None:
                    self._scores[name] = prompt_scores(output.prompt_token_ids, output.prompt_logprobs)
                continue
            running = self._running[name]
            new_ids = list(completion.token_ids)
            running.token_ids += new_ids
            self._generated_tokens += len(new_ids)
            stopped = self._stopped_by_text(running, len(new_ids))
            if stopped is not None:
                del running.token_ids[stopped:]
                if not output.finished:
                    self._inner.abort_request([name])
                self._end(name, "stop")
            elif output.finished and completion.finish_reason in ("stop", "length"):
                self._end(name, completion.finish_reason)
            elif output.finished:
                self._end(name, "error", f"vLLM ended it with {completion.finish_reason!r}")

    def _stopped_by_text(self, running: Running, new: int) -> int | None:
        """Returns the number of tokens up to the one that completed a stop text, if one of the `new` tokens did."""
        texts = running.request.decoding.stop_texts
        if not texts:
            return None
        for end in range(len(running.token_ids) - new + 1, len(running.token_ids) + 1):
            tail = self._tokenizer.decode(running.token_ids[max(0, end - STOP_TEXT_WINDOW_TOKENS) : end])
            if any(text in tail for text in texts):
                return end
        return None

    def _end(self, name: str, reason: Any, error: str | None = None) -> None:
        running = self._running.pop(name)
        seconds = time.monotonic() - running.started
        adapter = running.request.adapter
        if adapter is not None:
            self._adapters[adapter.name] -= 1
            if not self._adapters[adapter.name]:
                del self._adapters[adapter.name]
        self._finished.append(Finished(name, tuple(running.token_ids), reason, seconds, error))


def mend_of(settings: VllmSettings, shapes: ModelShapes, on_gpu: bool) -> str | None:
    """Returns the method of WorkerExtension that corrects vLLM's workers, or None."""
    if not on_gpu:
        return "potstill_pack_experts_again" if settings.merge_adapters else "potstill_keep_base_rows"
    slots_of_experts = not settings.merge_adapters and settings.lora_target == "all" and shapes.experts
    return "potstill_pin_packed_only" if slots_of_experts else None


def sampling_params(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    decoding: Decoding = request.decoding
    return SamplingParams(
        temperature=decoding.temperature,
        top_p=decoding.top_p if decoding.temperature > 0 else 1.0,
        seed=request.seed if decoding.temperature > 0 else None,
        max_tokens=decoding.limit_tokens,
        stop_token_ids=list(decoding.stop_token_ids),
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def request_refusals() -> tuple[type[Exception], ...]:
    """Returns the errors that vLLM raises for a refused request: ValueError in 0.26, a separate class in 0.32."""
    from vllm import exceptions

    return (ValueError, getattr(exceptions, "VLLMClientError", ValueError))


def prompt_scores(token_ids: Sequence[int], logprobs: Any) -> tuple[float, ...]:
    """Returns the log-probability of each token but the first; vLLM's entry for the first is None."""
    return tuple(float(logprobs[place][token_ids[place]].logprob) for place in range(1, len(token_ids)))
