"""Finds the program among an output's code blocks: parses them as syntax trees and runs nothing.

Models often write an example of use, or tests, in a separate block after the solution, and imports in one before it. A
block that cannot be parsed but has a line `def NAME` without indentation defines NAME: it is the model's answer, with a
syntax error.
"""

import ast
import builtins
import re
import warnings
from collections.abc import Iterator, Sequence

LONGEST_PARSED = 200_000
"""Characters of a block. A longer block is read line by line, like one that cannot be parsed."""


def program_of(blocks: Sequence[str], entry_point: str) -> str:
    """Returns the last block that defines `entry_point`; the last block if none does.

    It adds imports of earlier blocks for names that the block uses and does not bind.
    """
    if len(blocks) == 1:
        return blocks[0]
    chosen = next((n for n in range(len(blocks) - 1, -1, -1) if _defines(blocks[n], entry_point)), None)
    if chosen is None:
        return blocks[-1]
    return _imports(blocks[:chosen], blocks[chosen]) + blocks[chosen]


def _defines(block: str, name: str) -> bool:
    if name not in block:
        return False
    tree = _parsed(block)
    if tree is None:
        return re.search(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b", block, re.MULTILINE) is not None
    return any(name in _bound(statement) for statement in _module_level(tree))


def _parsed(block: str) -> ast.Module | None:
    """Returns None for text that is not Python, or is too long or too deep to be parsed."""
    if len(block) > LONGEST_PARSED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(block)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _module_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yields statements that run in the module's namespace, including those within if, try, with and loops."""
    found: list[ast.AST] = list(reversed(tree.body))
    while found:
        node = found.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = [
                n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt | ast.excepthandler | ast.match_case)
            ]
            found += reversed(inner)


def _bound(statement: ast.stmt) -> set[str]:
    """Returns names that this statement itself binds in its namespace."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        case ast.Assign():
            return {name for target in statement.targets for name in _stored(target)}
        case ast.AnnAssign() if statement.value is not None:
            return _stored(statement.target)
    return set()


def _stored(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _imports(earlier: Sequence[str], block: str) -> str:
    """Returns import statements of earlier blocks, a line each, for names that `block` lacks. For each name the last
    one counts.

    Returns None if `block` has a `__future__` import, which must come before all other statements.
    """
    tree = _parsed(block)
    lacking = set() if tree is None or "__future__" in block else _lacking(tree)
    lines: list[str] = []
    for text in reversed(earlier) if lacking else ():
        source = _parsed(text) if "import" in text else None
        for statement in reversed(list(_module_level(source))) if source is not None else ():
            if isinstance(statement, ast.Import | ast.ImportFrom) and _bound(statement) & {*lacking, "*"} and lacking:
                lacking -= _bound(statement)
                lines.append(ast.unparse(statement) + "\n")
    return "".join(reversed(lines))


def _lacking(tree: ast.Module) -> set[str]:
    """Returns names that are read in the block, but neither bound in it nor builtins."""
    read: set[str] = set()
    bound: set[str] = set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.Name():
                (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            case ast.arg():
                bound.add(node.arg)
            case ast.stmt():
                bound |= _bound(node)
    return read - bound
