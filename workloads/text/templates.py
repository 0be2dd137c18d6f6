"""Converts a prompt or a conversation to text: built-in templates, a user's Jinja file, the base's chat template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workloads.api.units import Template
from workloads.text.jinja import BadTemplate, is_marked, render, render_marked

Message = Mapping[str, Any]

CHATML = (
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}"
    "{{- '<|im_start|>assistant\\n' }}{% generation %}{{- message.content + end_token }}{% endgeneration %}{{- '\\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""chatml over several turns. The assistant's turns end with the base's own end token, like responses."""


@dataclass(frozen=True)
class BaseChat:
    """The chat settings in the base's tokenizer files: `templates` by name, special tokens (`bos_token`) by name."""

    templates: tuple[tuple[str, str], ...] = ()
    special_tokens: tuple[tuple[str, str], ...] = ()

    def template(self, has_tools: bool) -> str:
        """Returns the Jinja source: `default`, or `tool_use` for rows with tools, as in transformers.

        Raises BadTemplate.
        """
        named = dict(self.templates)
        if has_tools and "tool_use" in named:
            return named["tool_use"]
        if "default" in named:
            return named["default"]
        if named:
            raise BadTemplate(f"the base has chat templates {', '.join(named)}, and none is the default: give a file")
        raise BadTemplate("the base has no chat template: state template chatml, plain or a Jinja file")


@dataclass(frozen=True)
class RenderedChat:
    """`spans`: (start, end) of the supervised text in characters, ascending; each is a turn of the assistant."""

    text: str
    spans: tuple[tuple[int, int], ...]


def render_prompt(template: Template, prompt: str, chat: BaseChat | None = None) -> str:
    """Returns all text before the response, including the opening of the assistant's turn.

    chatml: the turns of Qwen's chat format, the system turn only if one is stated, and never a `<think>` block. plain:
    the prompt itself (after the system text and a blank line, if one is stated). file: the user's Jinja source with
    transformers' functions for chat templates, and `prompt` and `system`. base: the base's chat template, from `chat`.
    Raises BadTemplate.
    """
    match template.name:
        case "chatml":
            system = f"<|im_start|>system\n{template.system}<|im_end|>\n" if template.system else ""
            return f"{system}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        case "plain":
            return f"{template.system}\n\n{prompt}" if template.system else prompt
        case "file" | "base":
            messages = [*_system(template), {"role": "user", "content": prompt}]
            extra = {"prompt": prompt, "system": template.system or ""} if template.name == "file" else {}
            source = _source(template, chat, has_tools=False)
            variables = _variables(template, chat, messages, None) | extra | {"add_generation_prompt": True}
            return render(source, variables, is_strict=template.name == "file", today=template.date)


def render_chat(
    template: Template,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    learned: Sequence[int],
    chat: BaseChat | None,
    end_token: str,
    end_tokens: Sequence[str] = (),
) -> RenderedChat:
    """Returns a conversation as text, with the places of the turns `learned` (positions of messages of the assistant).

    The places are exact, or the conversation is refused. They are those of `{% generation %}` blocks if the template
    has them. Otherwise the template is rendered up to each turn and with it, and both must be a prefix of the whole.
    Such a turn ends with its end token (one of `end_tokens`): white space after it has no loss. The text ends with the
    last supervised turn. Raises BadTemplate.
    """
    if template.name == "plain":
        raise BadTemplate("template plain is for prompts, and this is a conversation: state base, chatml or a file")
    if template.name == "chatml":
        _check_for_chatml(messages, tools)
    stated = [] if messages and messages[0].get("role") in ("system", "developer") else _system(template)
    learned = [index + len(stated) for index in learned]
    messages = [*stated, *messages]
    source = _source(template, chat, has_tools=bool(tools))

    def variables(count: int, opens: bool) -> dict[str, Any]:
        return (
            _variables(template, chat, messages[:count], tools)
            | {"add_generation_prompt": opens}
            | ({"end_token": end_token} if template.name == "chatml" else {})
        )

    strict = template.name == "file"
    if is_marked(source):
        text, spans = render_marked(source, variables(len(messages), False), is_strict=strict, today=template.date)
        spans = _of_turns(spans, messages, learned)
    else:
        text = render(source, variables(len(messages), False), is_strict=strict, today=template.date)
        found = []
        for index in learned:
            before = render(source, variables(index, True), is_strict=strict, today=template.date)
            after = render(source, variables(index + 1, False), is_strict=strict, today=template.date)
            found.append(_span(text, before, after, index, end_tokens))
        spans = tuple(found)
    return RenderedChat(text[: spans[-1][1]], spans)


def _of_turns(
    spans: tuple[tuple[int, int], ...], messages: Sequence[Message], learned: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    turns = [index for index, message in enumerate(messages) if message.get("role") == "assistant"]
    if len(spans) != len(turns):
        raise BadTemplate(
            f"the template marks {len(spans)} parts as generated, and the conversation has {len(turns)} turns of the "
            "assistant: which part is which turn is not known"
        )
    return tuple(span for span, index in zip(spans, turns, strict=True) if index in learned)


def _span(text: str, before: str, after: str, index: int, end_tokens: Sequence[str]) -> tuple[int, int]:
    turn = f"turn {index + 1} of the conversation"
    if not text.startswith(after):
        raise BadTemplate(
            f"{turn} is rendered otherwise once other turns follow it (templates that drop the reasoning of earlier "
            "turns do so), so what is learned there is not what the model would say: state loss: last, or a row for "
            "each turn"
        )
    if not after.startswith(before):
        raise BadTemplate(
            f"{turn} does not begin with the template's generation prompt "
            f"({_tail(before)}): the response must continue it, or set the template's templateVariables"
        )
    end = after.rstrip()
    if len(end) > len(before) and end.endswith(tuple(token for token in end_tokens if token)):
        return len(before), len(end)
    return len(before), len(after)


def _tail(text: str) -> str:
    return repr(text[-40:])


def _check_for_chatml(messages: Sequence[Message], tools: Sequence[Any] | None) -> None:
    if tools or any(message.get("tool_calls") or message.get("role") == "tool" for message in messages):
        raise BadTemplate("template chatml has no tools: state base, or a Jinja file that renders them")


def _system(template: Template) -> list[dict[str, str]]:
    return [{"role": "system", "content": template.system}] if template.system else []


def _source(template: Template, chat: BaseChat | None, has_tools: bool) -> str:
    match template.name:
        case "chatml":
            return CHATML
        case "base":
            return (chat or BaseChat()).template(has_tools)
        case _:
            if not template.text:
                raise BadTemplate("template `file` holds no text: give the Jinja file's content")
            return template.text


def _variables(
    template: Template, chat: BaseChat | None, messages: Sequence[Message], tools: Sequence[Any] | None
) -> dict[str, Any]:
    special = dict(chat.special_tokens) if chat is not None else {}
    if template.name == "file":
        special = {"bos_token": "", "eos_token": ""} | special
    stated = {variable.name: json.loads(variable.value) for variable in template.variables}
    return special | stated | {"messages": list(messages), "tools": tools or None, "documents": None}


__all__ = ["BadTemplate", "BaseChat", "RenderedChat", "render_chat", "render_prompt"]
