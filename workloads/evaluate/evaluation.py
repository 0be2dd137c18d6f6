"""One evaluation of a group: its prompts, its outputs, and its marker's record."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workloads.api.records import Output, OutputsRecord
from workloads.api.tasks import GenerateMember
from workloads.api.units import EngineIdentity
from workloads.engines.base import Adapter, Decoding, Finished, Request, request_seed
from workloads.evaluate.prompts import Prompt, prompts_sha256
from workloads.text.tokenizer import TextTokenizer


@dataclass
class Evaluation:
    member: GenerateMember
    prompts: Sequence[Prompt]
    adapter: Adapter | None
    decoding: Decoding
    canary_error: float | None = None
    started: float = math.inf
    """When the engine began with its first output; monotonic seconds."""
    _finished: dict[tuple[str, int], Finished] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.member.unit.digest

    @property
    def total(self) -> int:
        return len(self.prompts) * self.member.inputs.sampling.n

    @property
    def done(self) -> int:
        return len(self._finished)

    def requests(self) -> Iterator[tuple[Request, tuple[str, int]]]:
        """Yields each request with the (problem, index) that it answers."""
        sampling = self.member.inputs.sampling
        for index in range(sampling.n):
            for prompt in self.prompts:
                request = Request(
                    id=f"{self.digest}/{index}/{prompt.problem}",
                    group=self.digest,
                    prompt=prompt.token_ids,
                    adapter=self.adapter,
                    decoding=self.decoding,
                    seed=request_seed(sampling.seed, prompt.problem, index),
                )
                yield request, (prompt.problem, index)

    def take(self, place: tuple[str, int], finished: Finished) -> None:
        self.started = min(self.started, time.monotonic() - finished.seconds)
        self._finished[place] = finished

    def write(self, path: Path, tokenizer: TextTokenizer) -> None:
        """Writes outputs.jsonl: problems in the requested order, each with its outputs 0 .. n-1. It has no times."""
        with path.open("wb") as file:
            for prompt, index, finished in self._in_order():
                output = Output(
                    problem=prompt.problem,
                    index=index,
                    prompt_sha256=prompt.sha256,
                    prompt_tokens=len(prompt.token_ids),
                    token_ids=finished.token_ids,
                    text=tokenizer.decode(text_token_ids(finished, self.decoding)),
                    finish_reason=finished.finish_reason,
                )
                file.write(output.to_json())

    def record(self, engine: EngineIdentity, versions: dict[str, str], tokenizer: TextTokenizer) -> OutputsRecord:
        reasons = [finished.finish_reason for finished in self._finished.values()]
        return OutputsRecord(
            engine=engine,
            outputs=len(reasons),
            generated_tokens=sum(len(finished.token_ids) for finished in self._finished.values()),
            finish_reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
            prompts_sha256=prompts_sha256(self.prompts),
            tokenizer_sha256=tokenizer.sha256,
            seconds=time.monotonic() - self.started,
            output_seconds=tuple(round(finished.seconds, 3) for _, _, finished in self._in_order()),
            canary_error=self.canary_error,
            versions=versions,
        )

    def _in_order(self) -> Iterator[tuple[Prompt, int, Finished]]:
        for prompt in self.prompts:
            for index in range(self.member.inputs.sampling.n):
                yield prompt, index, self._finished[prompt.problem, index]


def text_token_ids(finished: Finished, decoding: Decoding) -> tuple[int, ...]:
    """Returns the tokens of the text: all but the end token."""
    ended = bool(finished.token_ids) and finished.token_ids[-1] in decoding.stop_token_ids
    return finished.token_ids[:-1] if ended else finished.token_ids
