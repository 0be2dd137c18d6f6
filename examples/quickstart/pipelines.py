"""Small list-processing functions: a pipeline of one to four operations, described in words and written in Python.

The number of operations is the difficulty. Descriptions, code and expected values all come from the same table, and the
expected values of a benchmark problem are computed here, by running the operations themselves.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Values = list[int]
NAMES = ("transform", "process", "convert", "solve", "apply", "change")


@dataclass(frozen=True)
class Operation:
    """One step: what the prompt says, the Python line that does it, and the same thing done here."""

    words: str
    code: str
    run: Callable[[Values], Values]


def with_constant(k: int) -> list[Operation]:
    return [
        Operation(f"add {k} to each element", f"xs = [x + {k} for x in xs]", lambda xs: [x + k for x in xs]),
        Operation(f"subtract {k} from each element", f"xs = [x - {k} for x in xs]", lambda xs: [x - k for x in xs]),
        Operation(f"multiply each element by {k}", f"xs = [x * {k} for x in xs]", lambda xs: [x * k for x in xs]),
        Operation(
            f"keep the elements above {k}", f"xs = [x for x in xs if x > {k}]", lambda xs: [x for x in xs if x > k]
        ),
        Operation(
            f"keep the elements below {k}", f"xs = [x for x in xs if x < {k}]", lambda xs: [x for x in xs if x < k]
        ),
        Operation(f"append {k} at the end", f"xs = xs + [{k}]", lambda xs: [*xs, k]),
    ]


OPERATIONS = (
    *(operation for k in range(1, 10) for operation in with_constant(k)),
    Operation("keep the even elements", "xs = [x for x in xs if x % 2 == 0]", lambda xs: [x for x in xs if x % 2 == 0]),
    Operation("keep the odd elements", "xs = [x for x in xs if x % 2 == 1]", lambda xs: [x for x in xs if x % 2 == 1]),
    Operation("square each element", "xs = [x * x for x in xs]", lambda xs: [x * x for x in xs]),
    Operation("drop the first element", "xs = xs[1:]", lambda xs: xs[1:]),
    Operation("drop the last element", "xs = xs[:-1]", lambda xs: xs[:-1]),
    Operation("reverse the list", "xs = xs[::-1]", lambda xs: xs[::-1]),
    Operation("sort the list", "xs = sorted(xs)", sorted),
)


@dataclass(frozen=True)
class Pipeline:
    name: str
    steps: tuple[Operation, ...]

    @property
    def prompt(self) -> str:
        return f"Write a Python function `{self.name}(xs)` for a list of integers: {self.words}. Return the list."

    @property
    def words(self) -> str:
        return ", then ".join(step.words for step in self.steps)

    @property
    def code(self) -> str:
        return "\n".join([f"def {self.name}(xs):", *(f"    {step.code}" for step in self.steps), "    return xs"])

    def run(self, xs: Values) -> Values:
        for step in self.steps:
            xs = step.run(xs)
        return xs


def draw_pipeline(rng: random.Random, lengths: Sequence[int]) -> Pipeline:
    """A random function of as many distinct operations as is drawn from ``lengths``."""
    return Pipeline(rng.choice(NAMES), tuple(rng.sample(OPERATIONS, rng.choice(lengths))))


def direct_answer(pipeline: Pipeline) -> str:
    return f"```python\n{pipeline.code}\n```"


def steps(pipeline: Pipeline) -> list[str]:
    return [f"{number}. {step.words}: {step.code}" for number, step in enumerate(pipeline.steps, start=1)]


def worked_answer(pipeline: Pipeline) -> str:
    return "\n".join((*steps(pipeline), "", direct_answer(pipeline)))


def teach(rng: random.Random, pipeline: Pipeline) -> str:
    """The teacher's response: the steps one by one, often an example traced through them, then the function."""
    lines = steps(pipeline)
    if rng.random() < 0.25 * len(pipeline.steps):
        xs = draw_values(rng)
        lines.append(f"Example: {xs}")
        for step in pipeline.steps:
            xs = step.run(xs)
            lines.append(f"-> {xs}")
    return "<think>\n" + "\n".join(lines) + "\n</think>\n\n" + direct_answer(pipeline)


def draw_values(rng: random.Random) -> Values:
    return [rng.randint(0, 12) for _ in range(rng.randint(3, 6))]
