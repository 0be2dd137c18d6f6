"""Makes the problems of a benchmark and their prompts again, and checks them by their hashes."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workloads.api import store_keys
from workloads.api.experiment import FrozenBenchmark
from workloads.api.units import Prompting
from workloads.evaluate.problems import BadBenchmark, read_problems
from workloads.evaluate.prompts import BadPrompt, make_prompt
from workloads.storage.base import NotFound, Store
from workloads.storage.content_digest import ContentError, localise_file
from workloads.text.tokenizer import BadTokenizer, TextTokenizer, load_tokenizer


@dataclass(frozen=True)
class Asked:
    """The prompt of one output.

    `prompt_sha256`: the hash of the token ids that were sent. `tokenizer_sha256`: names the blob of the tokenizer.
    """

    problem: str
    prompting: Prompting
    prompt_sha256: str
    tokenizer_sha256: str


@dataclass(frozen=True)
class Prompts:
    """`problems`: text by id. `sent`: by hash of the token ids, the text of these tokens.

    A prompt whose tokens differ from those that were sent is not in `sent`. `notes`: what is missing and why.
    """

    problems: Mapping[str, str]
    sent: Mapping[str, str]
    notes: tuple[str, ...]


def prompts(benchmark: FrozenBenchmark, asked: Iterable[Asked], tokenizers: Callable[[str], TextTokenizer]) -> Prompts:
    """Makes them with the evaluation's own functions from the benchmark's file. Raises StoreError.

    `tokenizers` returns the tokenizer of a hash and raises BadTokenizer.
    """
    questions = tuple(asked)
    ids = tuple(dict.fromkeys(question.problem for question in questions))
    try:
        with tempfile.TemporaryDirectory() as folder:
            texts = read_problems(localise_file(benchmark.source, Path(folder)), ids) if ids else {}
    except (ContentError, BadBenchmark) as error:
        return Prompts({}, {}, (f"The problems and prompts of {benchmark.name} are not shown: {error}.",))
    sent: dict[str, str] = {}
    try:
        for question in questions:
            tokenizer = tokenizers(question.tokenizer_sha256)
            made = make_prompt(tokenizer, question.prompting, question.problem, texts[question.problem])
            if made.sha256 == question.prompt_sha256:
                sent[made.sha256] = tokenizer.decode(made.token_ids)
    except (BadPrompt, BadTokenizer) as error:
        return Prompts(texts, sent, (f"Not all prompts of {benchmark.name} are shown: {error}.",))
    unlike = sum(question.prompt_sha256 not in sent for question in questions)
    note = (
        f"{unlike:,} of {len(questions):,} prompts of {benchmark.name} are not shown: made again, they "
        "have other tokens than were sent."
    )
    return Prompts(texts, sent, (note,) if unlike else ())


def stored_tokenizers(store: Store) -> Callable[[str], TextTokenizer]:
    """Returns a function that reads each tokenizer.json from the store's blobs once.

    It raises BadTokenizer and StoreError.
    """
    known: dict[str, TextTokenizer] = {}

    def tokenizer(sha256: str) -> TextTokenizer:
        if sha256 not in known:
            try:
                data = store.get(store_keys.blob_key(sha256))
            except NotFound:
                raise BadTokenizer(
                    f"the store has no tokenizer {sha256[:12]} (key {store_keys.blob_key(sha256)})"
                ) from None
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "tokenizer.json").write_bytes(data)
                known[sha256] = load_tokenizer(Path(folder))
        return known[sha256]

    return tokenizer
