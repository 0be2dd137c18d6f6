"""The Jinja environment of chat templates: transformers' functions, with limits on time and memory.

As in transformers: a sandbox that changes nothing, trim_blocks and lstrip_blocks, break and continue, `tojson` without
HTML escapes, `raise_exception`, `{% generation %}`. A template is a foreign program, so in addition: steps, sizes and
CPU time are limited, attributes that the sandbox forbids are an error, and `strftime_now` only returns one stated date.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

MOST_STEPS = 2_000_000
"""Steps of loops and calls in one rendering."""
MOST_SECONDS = 10.0
"""CPU seconds of one rendering."""
MOST_CHARACTERS = 16 * 1024 * 1024
"""The length of each text that a template makes."""
MOST_ITEMS = 1_000_000
"""The length of each list that a template makes by `+` or `*`."""
LIMITS = "potstill_limits"
"""Name of the context variable that holds a rendering's Limits."""


class BadTemplate(Exception):
    """The Jinja source does not parse or does not render."""


class _BeyondLimits(TemplateError):
    pass


@dataclass
class Limits:
    """The use of one rendering. `mark`: text put around `{% generation %}` blocks; empty: nothing is marked."""

    mark: str = ""
    steps: int = 0
    until: float = field(default_factory=lambda: time.thread_time() + MOST_SECONDS)

    def step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS or (self.steps % 64 == 0 and time.thread_time() > self.until):
            raise _BeyondLimits(f"it takes too long: over {MOST_STEPS:,} steps or {MOST_SECONDS:.0f} s")


def _check_size(value: Any) -> Any:
    limit = MOST_CHARACTERS if isinstance(value, str) else MOST_ITEMS
    if isinstance(value, str | list | tuple | dict) and len(value) > limit:
        raise _BeyondLimits(f"it makes a {type(value).__name__} of {len(value):,}; at most {limit:,} are allowed")
    return value


def _check_product(size: int) -> None:
    if size > MOST_CHARACTERS:
        raise _BeyondLimits(f"it makes a text or list of {size:,}; at most {MOST_CHARACTERS:,} are allowed")


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterable[Any]:
    """Counts each of `values` of a for loop as a step.

    For values that cannot be iterated, Jinja raises its own error.
    """
    return values if isinstance(values, Undefined) else _steps(_limits(context), values)


def _steps(limits: Limits, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        limits.step()
        yield value


def _limits(context: Context) -> Limits:
    found = context.get(LIMITS)
    if not isinstance(found, Limits):
        raise _BeyondLimits(f"it changes {LIMITS}")
    return found


class _Bounds(NodeTransformer):
    """Counts the steps of every loop, and checks the size of every joined and captured text."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "potstill_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "potstill_bounded")

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.filter = _filtered(node.filter, "potstill_bounded")
        return node


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=getattr(node, "lineno", 1))


class _Generation(Extension):
    """`{% generation %}`: the assistant's text. It is put between two marks if the rendering needs them."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_marked", [nodes.ContextReference()])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _marked(self, context: Context, caller: Callable[[], str]) -> str:
        mark = _limits(context).mark
        return f"{mark}{caller()}{mark}"


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "+", "**", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed = _Bounds().visit(super()._parse(source, name, filename))
        assert isinstance(parsed, nodes.Template)
        return parsed

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        sized = (str, list, tuple)
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, sized) and isinstance(other, int):
                    _check_product(len(one) * other)
        elif operator == "**" and not (abs(left) <= 1e6 and abs(right) <= 64):
            raise _BeyondLimits(f"it raises {left} to the power {right}")
        elif operator == "%" and isinstance(left, str):
            raise SecurityError("% on a text: use ~ to join texts")
        elif operator == "+" and isinstance(left, sized) and isinstance(right, sized):
            _check_product(len(left) + len(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        _limits(context).step()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
                _check_product(max((len(owner) * arg for arg in args if isinstance(arg, int)), default=0))
            elif name == "replace" and len(args) >= 2:
                _check_replace(owner, *args[:2])
            elif name == "join" and args and isinstance(args[0], list | tuple):
                _check_join(owner, args[0])
        return _check_size(super().call(context, obj, *args, **kwargs))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"it reads {attribute!r} of a {type(obj).__name__}, which templates may not")


def _check_replace(text: str, old: Any, new: Any) -> None:
    _check_product(len(text) + text.count(str(old)) * len(str(new)))


def _check_join(separator: str, values: Iterable[Any]) -> None:
    sizes = [len(value) if isinstance(value, str) else 64 for value in values]
    _check_product(sum(sizes) + len(separator) * len(sizes))


def _replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    text = str(value)
    _check_replace(text, old, new)
    return text.replace(str(old), str(new), -1 if count is None else count)


def _join(value: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    values = [item[attribute] if attribute is not None else item for item in value]
    _check_join(str(separator), values)
    return str(separator).join(map(str, values))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=None if separators is None else tuple(separators),
        sort_keys=sort_keys,
        allow_nan=False,
    )
    return str(_check_size(text))


def _raise_exception(message: str) -> Any:
    raise TemplateError(message)


class _NamedUndefined(Undefined):
    """Like Jinja's own, but an undefined name that is printed is an error, because it is misspelt."""

    def __str__(self) -> str:
        if self._undefined_obj is missing:
            self._fail_with_undefined_error()
        return ""


@lru_cache(maxsize=64)
def _compiled(source: str, is_strict: bool, today: str | None) -> Any:
    environment = _Environment(
        undefined=_NamedUndefined if is_strict else Undefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        optimized=False,
        extensions=[_Generation, loopcontrols],
    )

    def strftime_now(format_: str) -> str:
        if today is None:
            raise TemplateError(
                "it asks for today's date, and data must not depend on the day: state templateDate (2026-01-31)"
            )
        return date.fromisoformat(today).strftime(format_)

    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = strftime_now
    del environment.globals["lipsum"]
    environment.filters["tojson"] = _to_json
    environment.filters["replace"] = _replace
    environment.filters["join"] = _join
    environment.filters["potstill_counted"] = _counted
    environment.filters["potstill_bounded"] = _check_size
    for name in ("center", "indent", "format", "wordwrap", "pprint", "random"):
        environment.filters.pop(name, None)
    environment.filters["indent"] = _indent
    return environment.from_string(source)


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = str(value)
    space = width if isinstance(width, str) else " " * min(int(width), 1000)
    _check_product(len(text) + (text.count("\n") + 1) * len(space))
    lines = text.split("\n")
    return "\n".join(
        space + line if (number or first) and (blank or line) else line for number, line in enumerate(lines)
    )


def render(source: str, variables: dict[str, Any], *, is_strict: bool = False, today: str | None = None) -> str:
    """Returns the text of a template. `is_strict`: an undefined name that is printed is an error.

    Raises BadTemplate.
    """
    return _render(source, variables, is_strict, today, Limits())


def render_marked(
    source: str, variables: dict[str, Any], *, is_strict: bool = False, today: str | None = None
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Returns the text, and (start, end) of each `{% generation %}` block in it, in characters. Raises BadTemplate."""
    mark = f"\ufdd0{secrets.token_hex(12)}\ufdd1"
    marked = _render(source, variables, is_strict, today, Limits(mark))
    pieces = marked.split(mark)
    text = "".join(pieces)
    if text != _render(source, variables, is_strict, today, Limits()) or len(pieces) % 2 == 0:
        raise BadTemplate("the template changes the text of its {% generation %} blocks, so their place is not known")
    spans: list[tuple[int, int]] = []
    position = 0
    for number, piece in enumerate(pieces):
        if number % 2:
            spans.append((position, position + len(piece)))
        position += len(piece)
    return text, tuple(spans)


def _render(source: str, variables: dict[str, Any], is_strict: bool, today: str | None, limits: Limits) -> str:
    try:
        text = _compiled(source, is_strict, today).render({**variables, LIMITS: limits})
        return str(_check_size(text))
    except Exception as error:  # a template is a foreign program: any exception is its own fault
        problem = f"{error}" if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise BadTemplate(f"the Jinja template does not render: {problem[:400]}") from error


def is_marked(source: str) -> bool:
    """Returns whether the template itself marks the assistant's text."""
    return any(
        token[1] == "name" and token[2] == "generation" and previous == "block_begin"
        for previous, token in _with_previous(source)
    )


@lru_cache(maxsize=64)
def _with_previous(source: str) -> tuple[tuple[str, tuple[int, str, str]], ...]:
    environment = ImmutableSandboxedEnvironment(extensions=[loopcontrols])
    try:
        tokens = [token for token in environment.lex(source) if token[1] != "whitespace"]
    except TemplateError:
        return ()
    return tuple(zip(["", *(token[1] for token in tokens)], tokens, strict=False))
