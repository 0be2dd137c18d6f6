"""Conversations and instructions in common formats, and rows that are refused with file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.text.chats import LLAMA3, MARKED, QWEN3
from tests.train.world import END_OF_TEXT, IM_END, inputs, write_rows, write_tokenizer
from workloads.api.units import Columns, DataFormat, Loss, Template, TemplateVariable
from workloads.data.end_token import EndToken
from workloads.data.files import BadData
from workloads.data.rendered import RenderedSample, render
from workloads.data.rows import Conversation, DataRow, read_rows
from workloads.data.samples import TrainingData, prepare
from workloads.data.tokens import tokenise
from workloads.text.templates import BadTemplate, BaseChat
from workloads.text.tokenizer import TextTokenizer, load_tokenizer

END = EndToken(END_OF_TEXT, "<|endoftext|>", "test")
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
]


def with_chat(directory: Path, source: str) -> TextTokenizer:
    write_tokenizer(directory)
    (directory / "chat_template.jinja").write_text(source)
    return load_tokenizer(directory)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return with_chat(tmp_path_factory.mktemp("marked"), MARKED)


def read(path: Path, *rows: Any, format_: DataFormat = "messages", loss: Loss = "all", **columns: str) -> list[Any]:
    return read_rows(write_rows(path / "d.jsonl", rows), Columns(**columns), format_, loss)


def roles(row: Conversation) -> list[str]:
    return [message["role"] for message in row.messages]


def test_messages_are_read_with_system_and_tools(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    (row,) = read(tmp_path, {"messages": CHAT[1:], "system": "Be brief.", "tools": [tool]})
    assert row.messages == tuple(CHAT)
    assert row.learned == (2, 4)
    assert row.tools == (tool,)
    (row,) = read(tmp_path, {"turns": CHAT, "tools": json.dumps([tool])}, loss="last", messages="turns")
    assert (row.learned, row.tools) == ((4,), (tool,))


def test_sharegpt_is_the_same_conversation_by_other_names(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
    (row,) = read(tmp_path, {"conversations": turns, "system": "Be brief."}, format_="sharegpt")
    assert row.messages == tuple(CHAT[:3])
    called = [
        turns[0],
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "2"},
        turns[1],
    ]
    (row,) = read(tmp_path, {"conversations": called}, format_="sharegpt")
    assert roles(row) == ["user", "assistant", "tool", "assistant"]
    assert row.messages[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Hi", "input": "", "output": "Ho"},
        format_="alpaca",
    )
    assert rows == [DataRow(1, "Add.\n\n1 2", "3"), DataRow(2, "Hi", "Ho")]


def test_prompt_and_completion_may_be_lists_of_messages(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {"prompt": CHAT[:4], "completion": CHAT[4:]}, format_="prompt", response="completion")
    assert row.messages == tuple(CHAT)
    assert row.learned == (4,), "what the prompt holds is not learned"


def test_turns_after_the_last_learned_turn_are_left_out(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {"messages": [*CHAT, {"role": "user", "content": "thanks"}]})
    assert row.messages == tuple(CHAT)


def test_parquet_with_nested_messages_is_read_as_jsonl_is(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    chat = [
        *CHAT[:2],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        CHAT[2],
    ]
    parquet.write_table(pyarrow.table({"messages": [chat, CHAT], "id": [1, 2]}), tmp_path / "d.parquet")
    assert read_rows(tmp_path / "d.parquet", Columns(), "messages") == read(
        tmp_path, {"messages": chat}, {"messages": CHAT}
    )


WRONG: dict[str, tuple[str, str]] = {
    "no messages": ('{"conversation": []}', "no column 'messages'"),
    "sharegpt in place of messages": ('{"conversations": []}', "state format: sharegpt"),
    "empty": ('{"messages": []}', "has no messages"),
    "text": ('{"messages": "hello"}', "is text that is not JSON"),
    "a role that is none": ('{"messages": [{"role": "bot", "content": "x"}]}', "message 1: role is 'bot'"),
    "a role that is not text": ('{"messages": [{"role": ["user"], "content": "x"}]}', "message 1: role is list"),
    "sharegpt's keys": ('{"messages": [{"from": "human", "value": "x"}]}', "state format: sharegpt"),
    "content of the wrong type": ('{"messages": [{"role": "user", "content": 7}]}', "message 1: content must be text, found int"),
    "an image": ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "a part of type 'image_url'"),
    "nobody answers": ('{"messages": [{"role": "user", "content": "x"}]}', "no message of the assistant"),
    "nobody asks": ('{"messages": [{"role": "assistant", "content": "x"}]}', "no message before it asks"),
    "an empty answer": ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}', "message 2 of the assistant is empty"),
    "half a surrogate pair": ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "half a surrogate pair"),
    "NaN in tools": ('{"messages": [{"role": "user", "content": "x"}], "tools": [{"a": NaN}]}', "holds nan"),
    "infinity in tools": ('{"messages": [{"role": "user", "content": "x"}], "tools": [{"a": 1e999}]}', "holds inf"),
    "a huge number in tools": (f'{{"messages": [{{"role": "user", "content": "x"}}], "tools": [{{"a": {"9" * 100}}}]}}', "too many digits"),
    "a number too long for Python": (f'{{"messages": {"9" * 5000}}}', "not JSON"),
    "deep JSON": (f'{{"messages": {"[" * 100_000}', "nested too deep"),
    "deep tools": (f'{{"messages": [{{"role": "user", "content": "x"}}], "tools": [{{"a": {"[" * 100}{"]" * 100}}}]}}', "levels deep"),
    "a key twice": ('{"messages": [], "messages": []}', "the key 'messages' is repeated"),
    "a key twice within": ('{"messages": [{"role": "user", "role": "assistant", "content": "x"}]}', "the key 'role' is repeated"),
    "calls without names": ('{"messages": [{"role": "assistant", "tool_calls": [{"id": 1}]}]}', "function: {name, arguments}"),
    "arguments that are not JSON": ('{"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}', "is text that is not JSON"),
    "a system text twice": ('{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "system": "b"}', "keep one"),
    "no object": ("[1]", "expected an object with the columns, found list"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_refused_with_file_line_and_reason(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"messages": CHAT}) + "\n" + text + "\n")
    with pytest.raises(BadData) as caught:
        read_rows(path, Columns(), "messages")
    assert message in str(caught.value)
    assert str(caught.value).startswith("d.jsonl: line 2: ")
    assert len(str(caught.value)) < 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "tool_calls", "function", "name"]) | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@given(row=json_values, format_=st.sampled_from(["prompt", "messages", "sharegpt", "alpaca"]))
@settings(max_examples=200)
def test_any_row_of_a_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, row: Any, format_: DataFormat
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    values = {
        "messages": row,
        "conversations": row,
        "prompt": row,
        "response": row,
        "instruction": row,
        "output": row,
        "tools": row,
    }
    path.write_text(json.dumps(values))
    try:
        rows = read_rows(path, Columns(), format_)
    except BadData as error:
        said = str(error)
    else:
        said = f"line {len(rows)}"
    assert "line 1" in said


def made(directory: Path, rows: list[Any], source: str, **stated: Any) -> tuple[TrainingData, TextTokenizer]:
    tokenizer = with_chat(directory / "base", source)
    (directory / "base" / "model.safetensors").write_bytes(b"")
    path = write_rows(directory / "rows.jsonl", rows)
    asked = {"template": Template(name="base"), "samples": len(rows), "checkpoints": (), "format": "messages"} | stated
    return prepare(path, inputs(directory / "base", path, **asked), tokenizer, END), tokenizer


def shown(directory: Path, rows: list[Any], source: str, **stated: Any) -> RenderedSample:
    return render(*made(directory, rows, source, **stated), 1)[0]


def test_the_loss_is_on_every_turn_of_the_assistant_or_the_last(tmp_path: Path) -> None:
    sample = shown(tmp_path, [{"messages": CHAT}], MARKED)
    assert [text for text, learned in sample.pieces if learned] == ["2<|im_end|>", "4<|im_end|>"]
    assert "".join(text for text, _ in sample.pieces).endswith("<|im_start|>assistant\n4<|im_end|>")
    sample = shown(tmp_path, [{"messages": CHAT}], MARKED, loss="last")
    assert [text for text, learned in sample.pieces if learned] == ["4<|im_end|>"]


def test_a_prompt_and_response_go_through_the_bases_template_as_a_conversation(tmp_path: Path) -> None:
    row = {"prompt": "1+1?", "response": "<think>\none\n</think>\n\n2"}
    sample = shown(tmp_path, [row], QWEN3, format="prompt")
    assert sample.context == "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert sample.supervised == "<think>\none\n</think>\n\n2<|im_end|>"


def test_a_row_that_the_template_does_not_continue_is_named_by_its_line(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nb\n</think>\n\nc"}]
    with pytest.raises(BadTemplate, match="^line 2: turn 2 of the conversation is rendered otherwise"):
        made(
            tmp_path,
            [{"messages": CHAT}, {"messages": chat + chat}],
            LLAMA3.replace("m.content", "(m.content.split('</think>')[-1] if not loop.last else m.content)"),
        )


def test_a_template_that_takes_too_long_is_refused_with_the_row(tmp_path: Path) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(BadTemplate, match="^line 1: .*it takes too long"):
        made(tmp_path, [{"messages": CHAT}], endless)


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)


@given(
    turns=st.lists(st.tuples(words, words), min_size=1, max_size=4),
    limit=st.integers(2, 200),
    overlong=st.sampled_from(["truncate", "drop"]),
    loss=st.sampled_from(["all", "last"]),
)
@settings(max_examples=50)
def test_exactly_the_assistants_tokens_are_learned_whatever_the_limit(
    tokenizer: TextTokenizer,
    turns: list[tuple[str, str]],
    limit: int,
    overlong: Literal["truncate", "drop"],
    loss: Loss,
) -> None:
    messages = [
        message
        for user, answer in turns
        for message in ({"role": "user", "content": user}, {"role": "assistant", "content": answer})
    ]
    answers = list(range(1, len(messages), 2))
    row = Conversation(1, tuple(messages), tuple(answers if loss == "all" else answers[-1:]))
    rows = tokenise([row], tokenizer, Template(name="base"), END_OF_TEXT, limit, overlong)
    flags: list[bool] = []
    whole: list[int] = []
    for index, message in enumerate(messages):
        opening = tokenizer.encode(f"<|im_start|>{message['role']}\n")
        said = [*tokenizer.encode(message["content"]), IM_END]
        whole += [*opening, *said, *tokenizer.encode("\n")]
        flags += [False] * len(opening) + [index in row.learned] * len(said) + [False]
    whole, flags = whole[:-1], flags[:-1]
    assert int(rows.lengths[0]) == len(whole)
    if len(whole) > limit and overlong == "drop":
        assert rows.overlong[0]
        return
    kept = max((at + 1 for at, flag in enumerate(flags[:limit]) if flag), default=0)
    assert rows.ids(0) == whole[:kept]
    assert rows.supervised(0) == flags[:kept]
    assert int(rows.learned[0]) == sum(flags[:kept])


def test_a_token_across_a_border_is_divided_there(tmp_path: Path) -> None:
    from tests.text.test_tokenizer import byte_tokenizer

    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    chat = BaseChat(
        (
            (
                "default",
                "{% for m in messages %}[{{ m.role }}]\n{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
            ),
        )
    )
    tokenizer = TextTokenizer(tokenizer.inner, tokenizer.path, tokenizer.sha256, (), (), chat)
    source = (
        chat.templates[0][1]
        .replace("{% generation %}", "{% if m.role == 'assistant' %}{% generation %}")
        .replace("{% endgeneration %}", "{% endgeneration %}{% else %}{{ m.content }}{% endif %}")
    )
    tokenizer = TextTokenizer(
        tokenizer.inner, tokenizer.path, tokenizer.sha256, (), (), BaseChat((("default", source),))
    )
    row = Conversation(1, ({"role": "user", "content": "a"}, {"role": "assistant", "content": "\nb"}), (1,))
    rows = tokenise([row], tokenizer, Template(name="base"), 257, 100, "truncate")
    assert (
        tokenizer.decode([token for token, flag in zip(rows.ids(0), rows.supervised(0), strict=True) if flag]) == "\nb"
    )


def warnings_of(directory: Path, rows: list[Any], source: str = MARKED, **stated: Any) -> str:
    return "\n".join(made(directory, rows, source, **stated)[0].warnings)


def prompts(prompt: str, response: str) -> list[dict[str, str]]:
    return [{"prompt": prompt, "response": response}]


CHATML: dict[str, Any] = {"format": "prompt", "template": Template()}
THINK_IN_TEMPLATE: dict[str, Any] = {
    "format": "prompt",
    "template": Template(name="file", text="{{ prompt }}\n<think>\n"),
}
Warn = Callable[[Path], str]
WARNINGS: dict[str, tuple[Warn, Warn]] = {
    "ThinkNotClosed: 100% of the samples": (
        lambda path: warnings_of(path, prompts("a", "<think>bbbb</think>c"), **CHATML, sequence_tokens=24),
        lambda path: warnings_of(path, prompts("a", "<think>bbbb</think>c"), **CHATML),
    ),
    "ThinkTwice: in 1 row the": (
        lambda path: warnings_of(path, prompts("a", "<think>b</think>c"), **THINK_IN_TEMPLATE),
        lambda path: warnings_of(path, prompts("a", "b</think>c"), **THINK_IN_TEMPLATE),
    ),
    "AlreadyTemplated: the prompts of 1 row hold": (
        lambda path: warnings_of(path, prompts("<|im_start|>user\na<|im_end|>\n", "b"), **CHATML),
        lambda path: warnings_of(path, prompts("<|im_start|>user\na<|im_end|>\n", "b"), **CHATML | {"template": Template(name="plain")}),
    ),
    "EndWithin: the responses of 1 row hold": (
        lambda path: warnings_of(path, prompts("a", "b<|im_end|>\n<|im_start|>user\nc"), **CHATML),
        lambda path: warnings_of(path, prompts("a", "b"), **CHATML),
    ),
    "ColumnsNotRead: the rows have columns that are not read: input": (
        lambda path: warnings_of(path, [{"prompt": "a", "response": "b", "input": "c"}], **CHATML),
        lambda path: warnings_of(path, [{"instruction": "a", "output": "b", "input": "c"}], **CHATML | {"format": "alpaca"}),
    ),
    "WarmupTooLong: warmupSteps is 500 and the run has 1 step:": (
        lambda path: warnings_of(path, prompts("a", "b"), **CHATML, warmup_steps=500),
        lambda path: warnings_of(path, prompts("a", "b"), **CHATML, warmup_steps=0),
    ),
    "ControlTokens: users' text of 1 row holds": (
        lambda path: warnings_of(path, [{"messages": [{"role": "user", "content": "a<|endoftext|>"}, CHAT[2]]}]),
        lambda path: warnings_of(path, [{"messages": CHAT}]),
    ),
    "EndNotInTemplate: in 1 of 1 sample ": (
        lambda path: warnings_of(path, [{"messages": CHAT}], "{% for m in messages %}{{ m.content }}\n{% endfor %}"),
        lambda path: warnings_of(path, [{"messages": CHAT}]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_data_that_spoil_a_training_cause_a_warning_and_correct_data_do_not(tmp_path: Path, name: str) -> None:
    wrong, right = WARNINGS[name]
    assert name in wrong(tmp_path)
    assert name.partition(":")[0] not in right(tmp_path)


def test_a_variable_of_the_template_reaches_it(tmp_path: Path) -> None:
    off = Template(name="base", variables=(TemplateVariable(name="enable_thinking", value="false"),))
    rows = [{"messages": CHAT}]
    assert shown(tmp_path, rows, QWEN3, loss="last").supervised == "<think>\n\n</think>\n\n4<|im_end|>"
    assert shown(tmp_path, rows, QWEN3, loss="last", template=off).supervised == "4<|im_end|>"
