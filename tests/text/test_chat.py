"""Conversations as text: the text equals that of transformers, and the loss is exactly on the assistant's turns."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from tests.text.chats import LLAMA3, MARKED, QWEN3, THINKING_2507, WITH_BASE
from workloads.api.units import Template, TemplateVariable
from workloads.text.jinja import BadTemplate, render, render_marked
from workloads.text.templates import BaseChat, RenderedChat, render_chat, render_prompt

SPECIAL = (("bos_token", "<s>"), ("eos_token", "<|im_end|>"))
ENDS = ("<|im_end|>", "<|eot_id|>")


def asked(*texts: str, system: str | None = None) -> list[dict[str, Any]]:
    """Alternating turns of the user and the assistant."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, *({"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts))]


def chat(
    source: str, messages: list[dict[str, Any]], loss: str = "all", tools: Any = None, **stated: Any
) -> RenderedChat:
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    learned = turns if loss == "all" else turns[-1:]
    variables = tuple(TemplateVariable(name=key, value=json.dumps(value)) for key, value in stated.items())
    base = BaseChat((("default", source),), SPECIAL)
    return render_chat(Template(name="base", variables=variables), messages, tools, learned, base, "<|end|>", ENDS)


def learned_texts(rendered: RenderedChat) -> list[str]:
    return [rendered.text[start:end] for start, end in rendered.spans]


def of_transformers(source: str, messages: list[dict[str, Any]], tools: Any = None, **variables: Any) -> str:
    stated: dict[str, Any] = {**dict(SPECIAL), **variables}
    found: Any = render_jinja_template([messages], tools=tools, chat_template=source, **stated)
    rendered, _ = found
    return str(rendered[0])


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.parametrize("name", WITH_BASE)
@given(
    turns=st.lists(texts, min_size=2, max_size=6).map(lambda turns: turns[: len(turns) // 2 * 2]),
    system=st.none() | texts,
)
@settings(max_examples=25)
def test_a_conversation_is_rendered_as_transformers_renders_it(name: str, turns: list[str], system: str | None) -> None:
    source, messages = WITH_BASE[name], asked(*turns, system=system)
    whole = of_transformers(source, messages)
    prompt = of_transformers(source, messages[:-1], add_generation_prompt=True)
    try:
        rendered = chat(source, messages, loss="last")
    except BadTemplate:
        assert not whole.startswith(prompt), "it is refused only if the turn does not continue its prompt"
        return
    assert whole.startswith(rendered.text)
    assert whole[len(rendered.text) :].strip() == ""
    assert rendered.text[: rendered.spans[0][0]] == prompt
    assert rendered.text.endswith(ENDS)


@given(turns=st.lists(texts, min_size=2, max_size=6).map(lambda turns: turns[: len(turns) // 2 * 2]))
@settings(max_examples=25)
def test_generation_tags_mark_what_transformers_marks(turns: list[str]) -> None:
    messages = asked(*turns)
    found: Any = render_jinja_template([messages], chat_template=MARKED, return_assistant_tokens_mask=True)
    rendered, spans = found
    ours = chat(MARKED, messages)
    assert list(ours.spans) == spans[0]
    assert rendered[0].startswith(ours.text)


def test_every_turn_is_learned_with_its_end_and_nothing_else() -> None:
    messages = asked("1+1?", "2", "and 2+2?", "4", system="Be brief.")
    assert learned_texts(chat(LLAMA3, messages)) == ["2<|eot_id|>", "4<|eot_id|>"]
    assert learned_texts(chat(LLAMA3, messages, loss="last")) == ["4<|eot_id|>"]
    assert learned_texts(chat(MARKED, messages, loss="last")) == ["4<|im_end|>"]


def test_a_template_that_drops_earlier_reasoning_is_refused_for_all_turns_and_right_for_the_last() -> None:
    messages = asked("1+1?", "<think>\none\n</think>\n\n2", "2+2?", "<think>\ntwo\n</think>\n\n4")
    with pytest.raises(BadTemplate, match=r"turn 2 of the conversation is rendered otherwise.*loss: last"):
        chat(QWEN3, messages)
    last = chat(QWEN3, messages, loss="last")
    assert learned_texts(last) == ["<think>\ntwo\n</think>\n\n4<|im_end|>"]
    assert "one" not in last.text


def test_without_thinking_the_empty_block_belongs_to_the_prompt() -> None:
    messages = asked("1+1?", "2")
    assert learned_texts(chat(QWEN3, messages)) == ["<think>\n\n</think>\n\n2<|im_end|>"]
    assert learned_texts(chat(QWEN3, messages, enable_thinking=False)) == ["2<|im_end|>"]
    template = Template(name="base", variables=(TemplateVariable(name="enable_thinking", value="false"),))
    prompt = render_prompt(template, "1+1?", BaseChat((("default", QWEN3),), SPECIAL))
    assert prompt == chat(QWEN3, messages, enable_thinking=False).text.removesuffix("2<|im_end|>")


def test_a_response_that_does_not_continue_an_opened_think_is_refused() -> None:
    with pytest.raises(BadTemplate, match="does not begin with the template.s generation prompt"):
        chat(THINKING_2507, asked("1+1?", "2"))
    assert learned_texts(chat(THINKING_2507, asked("1+1?", "<think>\nx</think>2"))) == ["x</think>2<|im_end|>"]


def test_tools_and_their_calls_are_rendered_as_in_transformers() -> None:
    tools = [
        {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a<b": {}}}}}
    ]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "é": "<"}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "It is 2."},
    ]
    rendered = chat(QWEN3, messages, loss="last", tools=tools)
    assert of_transformers(QWEN3, messages, tools).startswith(rendered.text)
    assert '{"a": 1, "é": "<"}' in rendered.text
    with pytest.raises(BadTemplate, match="chatml has no tools"):
        render_chat(Template(), messages, tools, [3], None, "<|end|>")


def test_chatml_ends_every_turn_of_the_assistant_with_the_bases_own_end() -> None:
    rendered = render_chat(Template(system="S"), asked("a", "b", "c", "d"), None, [1, 3], None, "<|end|>")
    assert learned_texts(rendered) == ["b<|end|>", "d<|end|>"]
    assert rendered.text.startswith(
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb"
    )
    assert rendered.text[: rendered.spans[0][0]] == render_prompt(Template(system="S"), "a")


def test_todays_date_is_refused_unless_one_is_stated() -> None:
    source = '{{ strftime_now("%d %b %Y") }}{% for m in messages %}{{ m.content }}{% endfor %}'
    base = BaseChat((("default", source),))
    with pytest.raises(BadTemplate, match="templateDate"):
        render_prompt(Template(name="base"), "x", base)
    assert render_prompt(Template(name="base", date="2026-01-31"), "x", base) == "31 Jan 2026x"


def test_a_base_without_a_template_says_what_to_do() -> None:
    with pytest.raises(BadTemplate, match="state template chatml, plain or a Jinja file"):
        render_prompt(Template(name="base"), "x", BaseChat())


HOSTILE = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a recursive loop": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "doubling by ~": "{% set ns = namespace(t='xxxxxxxx') %}{% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "doubling by +": "{% set ns = namespace(t='xxxxxxxx') %}{% for a in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "doubling by capture": "{% set ns = namespace(t='xxxxxxxx') %}{% for a in range(60) %}{% set ns.t %}{{ ns.t }}{{ ns.t }}{% endset %}{% endfor %}",
    "a long text": "{{ 'x' * 10000000000 }}",
    "a padded text": "{{ 'x'.ljust(10000000000) }}",
    "a long list": "{{ ([1] * 10000000000) | length }}",
    "a power": "{{ 10 ** 10 ** 10 }}",
    "a replacement": "{% set t = 'x' * 10000000 %}{{ t | replace('x', t) | length }}",
    "a replacement by the method": "{% set t = 'x' * 10000000 %}{{ t.replace('x', t) | length }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "attributes": "{{ messages.__class__.__mro__ }}",
    "attributes by a filter": "{{ messages | attr('__class__') }}",
    "a changed message": "{{ messages.append(1) }}",
    "another file": "{% include '/etc/passwd' %}",
    "an error": "{{ 1 / 0 }}",
    "no syntax": "{% for %}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_and_does_not_hang(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(BadTemplate):
        render(HOSTILE[name], {"messages": []})
    assert time.thread_time() - began < 30


def test_marks_that_the_template_changes_are_refused() -> None:
    source = "{% set t %}{% generation %}a{% endgeneration %}{% endset %}{{ t[:5] }}"
    with pytest.raises(BadTemplate, match="their place is not known"):
        render_marked(source, {})


def test_the_bases_chat_is_read_from_where_transformers_saves_it(tmp_path: Path) -> None:
    from tests.train.world import write_tokenizer
    from workloads.text.tokenizer import load_tokenizer

    write_tokenizer(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|endoftext|>")
    tokenizer.chat_template = MARKED
    tokenizer.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path).chat
    assert found.template(has_tools=False) == MARKED
    assert dict(found.special_tokens)["eos_token"] == "<|endoftext|>"
    (tmp_path / "chat_template.jinja").unlink()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    named = [{"name": "default", "template": QWEN3}, {"name": "tool_use", "template": LLAMA3}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": named}))
    found = load_tokenizer(tmp_path).chat
    assert (found.template(has_tools=False), found.template(has_tools=True)) == (QWEN3, LLAMA3)
