"""Broken programs: one change each to a canonical solution of MBPP+, the same ones every time."""

import ast
import copy
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from workloads.benchmarks.model import Problem

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.FloorDiv, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr, ast.Pow: ast.Mult,
}  # fmt: skip

HEAVY_SECONDS = 1.0
"""Problems whose reference solution takes longer have one mutant: they would be most of the time."""


def mutants(problems: Iterable[Problem], per_problem: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(problem id, program, what was changed): up to `per_problem` distinct ones of each problem, one of a heavy one.

    Changes of the returned value as a whole come last: they are the easy ones.
    """
    for problem in problems:
        assert problem.reference_solution is not None
        assert problem.tests is not None
        seconds = sum(sum(suite.reference_seconds) for suite in problem.tests.suites)
        wanted = per_problem if seconds < HEAVY_SECONDS else 1
        tree = ast.parse(problem.reference_solution)
        names = [what for what, _ in _changes(copy.deepcopy(tree))]
        shuffled = random.Random(f"{seed} {problem.id}").sample(range(len(names)), len(names))
        chosen = sorted(shuffled, key=lambda number: names[number].startswith("returns "))
        seen = {ast.unparse(tree)}
        for number in chosen:
            changed = copy.deepcopy(tree)
            what = _apply(changed, number)
            program = ast.unparse(ast.fix_missing_locations(changed))
            if program not in seen:
                seen.add(program)
                yield problem.id, program, what
            if len(seen) > wanted:
                break


def _apply(tree: ast.Module, number: int) -> str:
    for index, (what, change) in enumerate(_changes(tree)):
        if index == number:
            change()
            return what
    raise IndexError(number)


Change = tuple[str, Callable[[], None]]


def _changes(tree: ast.Module) -> Iterator[Change]:
    for node in ast.walk(tree):
        yield from _of_expression(node)
        for name in ("body", "orelse"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and isinstance(node, ast.FunctionDef | ast.For | ast.While | ast.If):
                for position, statement in enumerate(statements):
                    if not isinstance(statement, ast.FunctionDef):
                        leave_out = partial(statements.__setitem__, position, ast.Pass())
                        yield f"{type(statement).__name__} left out", leave_out


def _of_expression(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare() if other := _COMPARISONS.get(type(node.ops[0])):
            yield f"{type(node.ops[0]).__name__} to {other.__name__}", partial(node.ops.__setitem__, 0, other())
        case ast.BinOp() | ast.AugAssign() if operator := _OPERATORS.get(type(node.op)):
            yield f"{type(node.op).__name__} to {operator.__name__}", partial(setattr, node, "op", operator())
        case ast.Constant(value=bool()):
            yield "constant flipped", partial(setattr, node, "value", not node.value)
        case ast.Constant(value=int() | float() as value):
            for what, new in (("+ 1", value + 1), ("- 1", value - 1), ("to float", float(value))):
                yield f"constant {what}", partial(setattr, node, "value", new)
        case ast.Return(value=ast.expr() as returned):
            text = ast.Call(ast.Name("str", ast.Load()), [returned], [])
            for what, other_value in (
                ("nothing", None),
                ("a list of it", ast.List([returned], ast.Load())),
                ("its text", text),
                ("it doubly", ast.BinOp(returned, ast.Mult(), ast.Constant(2))),
            ):
                yield f"returns {what}", partial(setattr, node, "value", other_value)
        case ast.If() | ast.While() | ast.IfExp():
            yield "condition negated", partial(setattr, node, "test", ast.UnaryOp(ast.Not(), node.test))
        case ast.Call(args=[_, _, *_]):
            yield "arguments reversed", node.args.reverse
