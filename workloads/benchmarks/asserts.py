"""Parses assert statements to data: the function, its arguments, and the expected value.

A candidate must not see expected values, so an assert never runs in the candidate's process. Supported forms: `assert
f(<literals>) == <literal>` (either way round, `is` for None and bools), `assert f(<literals>)` and `assert not
f(<literals>)`.
"""

import ast
from typing import Any


def parse_asserts(source: str, entry_point: str) -> list[tuple[list[Any], Any, bool]]:
    """Returns (arguments, expected, by truth) for each assert. By truth: any value with the same truth as `expected` is
    right.

    Raises ValueError, which names the unsupported statement.
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError as e:
        raise ValueError(f"asserts are not Python: line {e.lineno}: {e.msg}") from e
    except (RecursionError, MemoryError) as e:
        raise ValueError("asserts are nested too deeply to be read") from e
    return [_one(statement, entry_point) for statement in statements]


def _one(statement: ast.stmt, entry_point: str) -> tuple[list[Any], Any, bool]:
    advice = (
        f"cannot be taken apart into a call of {entry_point} and its expected value: write "
        f"`assert {entry_point}(...) == ...` with literals, or give `tests: [{{args, expected}}]`"
    )
    try:
        text = ast.unparse(statement)
    except RecursionError:
        text = f"line {statement.lineno}"
    if not isinstance(statement, ast.Assert):
        raise ValueError(f"`{text}` {advice}")
    test = statement.test
    try:
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Eq, ast.Is)):
            left, right = test.left, test.comparators[0]
            if not isinstance(left, ast.Call) or _called(left) != entry_point:
                left, right = right, left
            return _arguments(left, entry_point), ast.literal_eval(right), False
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return _arguments(test.operand, entry_point), False, True
        return _arguments(test, entry_point), True, True
    except (ValueError, TypeError, RecursionError, MemoryError) as e:
        raise ValueError(f"`{text}` {advice}") from e


def _called(call: ast.Call) -> str | None:
    return call.func.id if isinstance(call.func, ast.Name) else None


def _arguments(node: ast.expr, entry_point: str) -> list[Any]:
    if not isinstance(node, ast.Call) or _called(node) != entry_point or node.keywords:
        raise ValueError("no such call")
    return [ast.literal_eval(argument) for argument in node.args]
