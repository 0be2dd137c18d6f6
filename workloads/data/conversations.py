"""Conversations in several common formats, checked and converted to OpenAI's: role, content, tool calls, tools."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from workloads.api.units import Columns, DataFormat

ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant", "tool": "tool",
    "function_response": "tool", "observation": "tool", "function_call": "function_call",
}  # fmt: skip
TEXTS = ("content", "reasoning_content", "name", "tool_call_id", "thinking", "reasoning")
DEEPEST = 64
"""Levels of lists and objects in tools and tool calls."""


class BadRow(Exception):
    """The problem with a row; the reader adds the file and the line."""


def names_of(format_: DataFormat, columns: Columns) -> dict[str, str]:
    """Returns the names of the columns by their role: required ones, then optional ones (with `?`)."""
    match format_:
        case "prompt":
            return {"prompt": columns.prompt, "response": columns.response, **_optional(columns, {})}
        case "alpaca":
            return {
                "instruction": columns.instruction or "instruction",
                "output": columns.output or "output",
                "?input": columns.input or "input",
                **_optional(columns, {"system": "system"}),
            }
        case "messages" | "sharegpt":
            default = "messages" if format_ == "messages" else "conversations"
            return {
                "messages": columns.messages or default,
                **_optional(columns, {"system": "system", "tools": "tools"}),
            }


def _optional(columns: Columns, defaults: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for key, stated in (("system", columns.system), ("tools", columns.tools)):
        if stated is not None:
            found[key] = stated  # a stated column is required
        elif key in defaults:
            found[f"?{key}"] = defaults[key]
    return found


def check_text(name: str, value: Any) -> str:
    """Raises BadRow if the value is not text, or a text that no file can contain."""
    if not isinstance(value, str):
        raise BadRow(f"{name} must be text, found {_type(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} holds half a surrogate pair, which is not a character") from None
    return value


def conversation(name: str, value: Any, is_sharegpt: bool) -> list[dict[str, Any]]:
    """Returns the messages of column `name`. Raises BadRow with the number of the message."""
    if isinstance(value, str):
        value = _json(f"column {name!r}", value)
    if not isinstance(value, list):
        raise BadRow(f"column {name!r} must be a list of messages, found {_type(value)}")
    if not value:
        raise BadRow(f"column {name!r} has no messages")
    make = _sharegpt if is_sharegpt else _message
    found = []
    for number, message in enumerate(value, start=1):
        place = f"column {name!r}, message {number}"
        if not isinstance(message, dict):
            raise BadRow(f"{place}: must be an object, found {_type(message)}")
        found.append(make(place, message))
    return found


def _message(place: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    if "role" not in stated:
        hint = "; from and value are ShareGPT's: state format: sharegpt" if "from" in stated else ""
        raise BadRow(f"{place}: has no role{hint}")
    role = stated["role"]
    if role not in ROLES:
        raise BadRow(f"{place}: role is {_short(role)}; the roles are {', '.join(ROLES)}")
    message: dict[str, Any] = {"role": role}
    for key, value in stated.items():
        if key == "role" or value is None:
            continue
        if key == "content" and isinstance(value, list):
            value = _joined(place, value)
        if key in TEXTS:
            message[key] = check_text(f"{place}: {key}", value)
        elif key == "tool_calls":
            calls = _tool_calls(place, value)
            if calls:
                message[key] = calls
        elif key in ("weight", "refusal", "audio", "function_call", "images"):
            raise BadRow(f"{place}: {key} is not supported: remove it, or write its text as content")
    if "content" not in message:
        if "tool_calls" not in message:
            raise BadRow(f"{place}: has no content")
        message["content"] = ""
    return message


def _joined(place: str, parts: Sequence[Any]) -> str:
    """Joins content that is a list of parts; only text parts are allowed."""
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else _type(part)
            raise BadRow(f"{place}: content has a part of type {_short(kind)}; only text can be trained on")
        texts.append(part["text"])
    return "".join(texts)


def _tool_calls(place: str, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        value = _json(f"{place}: tool_calls", value)
    if not isinstance(value, list):
        raise BadRow(f"{place}: tool_calls must be a list, found {_type(value)}")
    found = []
    for call in value:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow(f"{place}: each of tool_calls must be an object with function: {{name, arguments}}")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = _json(f"{place}: arguments of {function['name']}", arguments)
        if not isinstance(arguments, dict):
            name = _short(function["name"])
            raise BadRow(f"{place}: arguments of {name} must be an object, found {_type(arguments)}")
        arguments = _without_none(check_json(f"{place}: tool_calls", arguments))
        name = check_text(f"{place}: name of a tool", function["name"])
        made = {"type": "function", "function": {"name": name, "arguments": arguments}}
        found.append({**made, "id": call["id"]} if isinstance(call.get("id"), str) else made)
    return found


def _without_none(value: Any) -> Any:
    """Removes nulls: Parquet gives every object of a column the keys of all others, as null."""
    return {key: item for key, item in value.items() if item is not None}


def _sharegpt(place: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    if "from" not in stated or "value" not in stated:
        hint = "; role and content are OpenAI's: state format: messages" if "role" in stated else ""
        raise BadRow(f"{place}: needs from and value{hint}")
    role = SHAREGPT_ROLES.get(stated["from"]) if isinstance(stated["from"], str) else None
    if role is None:
        raise BadRow(f"{place}: from is {_short(stated['from'])}; it may be {', '.join(SHAREGPT_ROLES)}")
    text = check_text(f"{place}: value", stated["value"])
    if role != "function_call":
        return {"role": role, "content": text}
    calls = _json(f"{place}: value", text)
    calls = calls if isinstance(calls, list) else [calls]
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": _tool_calls(place, [{"function": call} for call in calls]),
    }


def tools_of(name: str, value: Any) -> list[dict[str, Any]]:
    """Returns the tools of column `name`: a list of JSON schemas, or its JSON text. Raises BadRow."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = _json(f"column {name!r}", value)
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise BadRow(f"column {name!r} must be a list of tools, each an object, found {_type(value)}")
    checked: list[dict[str, Any]] = check_json(f"column {name!r}", value)
    return checked


def check_json(name: str, value: Any, depth: int = 0) -> Any:
    """Returns the value if a template may write it as JSON.

    Raises BadRow for NaN, half a surrogate pair, or too deep a value.
    """
    if depth > DEEPEST:
        raise BadRow(f"{name} is nested more than {DEEPEST} levels deep")
    if isinstance(value, str):
        return check_text(name, value)
    if isinstance(value, dict):
        return {check_text(name, key): check_json(name, item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [check_json(name, item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRow(f"{name} holds {value}, which is not a number of JSON")
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        raise BadRow(f"{name} holds a number of too many digits")
    if value is not None and not isinstance(value, bool | int | float):
        raise BadRow(f"{name} holds a {_type(value)}, which JSON has not")
    return value


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{name} is text that is not JSON: {error}") from error


def _type(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _short(value: Any) -> str:
    shown = repr(value) if isinstance(value, str | int | float | bool | None) else _type(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
