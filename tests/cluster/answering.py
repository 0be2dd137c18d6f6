"""A pod that generates without inference: `python -m tests.cluster.answering FOLDER KEY`.

The base answers every problem right; an adapter answers as many of the first ones wrong as its configuration's `revision`
says. It waits while FOLDER/hold is there.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer

from tests.controller.tiny_program import commit
from workloads.api import store_keys
from workloads.api.model import sha256_of
from workloads.api.records import OutputsRecord
from workloads.api.tasks import GenerateMember, GenerateTask, parse_task
from workloads.storage.base import Store, open_store
from workloads.storage.content_digest import localise_file, localise_model
from workloads.storage.markers import fetch, read_marker

END_OF_TEXT = 256
"""In the vocabulary of tests/train/world.py."""


def wrong_answers(store: Store, member: GenerateMember, folder: Path) -> int:
    if member.adapter is None:
        return 0
    marker = read_marker(store, member.adapter.unit, member.adapter.marker)
    assert marker is not None
    config = fetch(store, marker, ["adapter_config.json"], folder)["adapter_config.json"]
    return int(json.loads(config.read_text())["revision"].split()[0])


def answer(store: Store, member: GenerateMember, tokenizer_json: bytes, folder: Path) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    store.put_new(store_keys.blob_key(sha256_of(tokenizer_json)), tokenizer_json)
    wrong = wrong_answers(store, member, folder)
    problems = [json.loads(line) for line in localise_file(member.benchmark, folder).read_text().splitlines()]
    texts = ["no idea" if number < wrong else problem["answer"] for number, problem in enumerate(problems)]
    tokens = [[*tokenizer.encode(text).ids, END_OF_TEXT] for text in texts]
    rows = [
        {
            "problem": problem["id"],
            "promptSha256": sha256_of(problem["prompt"].encode()),
            "promptTokens": len(problem["prompt"]),
            "tokenIds": ids,
            "text": text,
            "finishReason": "stop",
        }
        for problem, text, ids in zip(problems, texts, tokens, strict=True)
    ]
    record = OutputsRecord(
        engine=member.inputs.engine,
        outputs=len(rows),
        generated_tokens=sum(map(len, tokens)),
        finish_reasons={"stop": len(rows)},
        prompts_sha256=sha256_of(b"prompts"),
        tokenizer_sha256=sha256_of(tokenizer_json),
        seconds=1.0,
        versions={},
    )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    commit(store, member.unit, member.number, store_keys.OUTPUTS, {"outputs.jsonl": text}, record)


def main(steer: Path, key: str) -> None:
    while (steer / "hold").exists():
        time.sleep(0.05)
    store = open_store(os.environ["POTSTILL_STORE"])
    task = parse_task(store.get(key))
    assert isinstance(task, GenerateTask)
    tokenizer_json = (localise_model(task.base) / "tokenizer.json").read_bytes()
    for member in task.members:
        with tempfile.TemporaryDirectory() as folder:
            answer(store, member, tokenizer_json, Path(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
