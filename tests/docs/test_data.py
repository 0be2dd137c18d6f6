"""Every format of docs/data.md: its example is read, and the stated text has the loss."""

import re
from pathlib import Path

import pytest
import yaml

from controller.experiment.models import DataSpec
from controller.experiment.templates import template_of
from tests.text.chats import MARKED
from tests.train.world import inputs, write_tokenizer
from workloads.api.units import Columns
from workloads.data.end_token import end_token
from workloads.data.rendered import render
from workloads.data.samples import prepare
from workloads.text.tokenizer import load_tokenizer

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
EXAMPLES = re.findall(
    r'```yaml\n([^`]+)```\n\n```json title="([^"]+)"\n(.+?)\n```\n\n```text\n(.+?)\n```', PAGE, re.DOTALL
)


def test_the_page_has_an_example_of_every_format() -> None:
    formats = {next(iter(yaml.safe_load(text)["data"].values())).get("format", "prompt") for text, *_ in EXAMPLES}
    assert formats == {"prompt", "messages", "sharegpt", "alpaca"}


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{number}-{example[1]}" for number, example in enumerate(EXAMPLES)])
def test_the_tokens_that_the_page_marks_are_learned(tmp_path: Path, example: tuple[str, str, str, str]) -> None:
    text, name, rows, learned = example
    data = DataSpec.model_validate(next(iter(yaml.safe_load(text)["data"].values())), by_alias=True, by_name=False)
    assert data.uri == name
    path = tmp_path / name
    path.write_text(rows + "\n")
    base = write_tokenizer(tmp_path / "base")
    (base / "chat_template.jinja").write_text(MARKED)
    (base / "model.safetensors").write_bytes(b"")
    tokenizer = load_tokenizer(base)
    template = template_of(data.template, data.template_text, data.system, tmp_path, ())
    columns = Columns.model_validate(data.columns.model_dump())
    stated = inputs(
        base, path, columns=columns, format=data.format, loss=data.loss, template=template, samples=1, checkpoints=(),
        warmup_steps=0, sequence_tokens=400,
    )  # fmt: skip
    found = prepare(path, stated, tokenizer, end_token(base, tokenizer))
    assert found.warnings == ()
    pieces = render(found, tokenizer, 1)[0].pieces
    assert [piece for piece, is_learned in pieces if is_learned] == learned.split("\n")
