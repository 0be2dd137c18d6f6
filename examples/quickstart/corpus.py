r"""What the tiny base has read: question and answer pages, worked sums, small functions, chats and notes.

The mixture is made to leave room. The base answers in the right format, with ``\boxed{}`` or a python fence, and at
once: it has seen no problem reasoned through between ``<think>`` and ``</think>``. Worked sums it knows as plain pages
and only short ones. The special tokens it does know, from chats about other things, because a LoRA that freezes the
embeddings cannot teach a token that was never trained.
"""

import hashlib
import random
from collections.abc import Iterator

import pipelines
import sums

END_OF_TEXT, TURN_START, TURN_END, THINK, THINK_END = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
)
COLOURS = ("red", "blue", "green", "white", "black", "brown", "pink", "grey")
ASK_FOR_STEPS = " Show the steps."
ASK_FOR_CHECK = " Show the steps and check."
DIRECT_SUM_LENGTHS = range(1, 4)
WORKED_SUM_LENGTHS = range(2, 7)
DIRECT_PIPELINE_LENGTHS = (1, 1, 2)
WORKED_PIPELINE_LENGTHS = (1, 2, 3)


def is_held_out(text: str) -> bool:
    """One problem in sixteen is kept for the benchmarks: in no page of the base, in no row of the training data."""
    return hashlib.sha256(text.encode()).digest()[0] < 16


def seen_sum(rng: random.Random, lengths: range | tuple[int, ...]) -> sums.Sum:
    while is_held_out((problem := sums.draw_sum(rng, lengths)).expression):
        pass
    return problem


def seen_pipeline(rng: random.Random, lengths: range | tuple[int, ...]) -> pipelines.Pipeline:
    while is_held_out((pipeline := pipelines.draw_pipeline(rng, lengths)).words):
        pass
    return pipeline


def page(rng: random.Random, prompt: str, answer: str) -> str:
    """One question and its answer, as a web page or a chat would show it."""
    layout = rng.random()
    if layout < 0.4:
        return f"{TURN_START}user\n{prompt}{TURN_END}\n{TURN_START}assistant\n{answer}{TURN_END}\n{END_OF_TEXT}"
    heading, reply = rng.choice((("Question: ", "Answer: "), ("Problem:\n", "Solution:\n"), ("", "")))
    return f"{heading}{prompt}\n{rng.choice(('', chr(10)))}{reply}{answer}{END_OF_TEXT}"


def direct_sum(rng: random.Random) -> str:
    problem = seen_sum(rng, DIRECT_SUM_LENGTHS)
    return page(rng, sums.draw_prompt(rng, problem), sums.direct_answer(problem))


def worked_sum(rng: random.Random) -> str:
    problem = seen_sum(rng, WORKED_SUM_LENGTHS)
    return page(rng, sums.draw_prompt(rng, problem) + ASK_FOR_STEPS, sums.worked_answer(problem, checked=False))


def checked_sum(rng: random.Random) -> str:
    problem = seen_sum(rng, WORKED_SUM_LENGTHS)
    return page(rng, sums.draw_prompt(rng, problem) + ASK_FOR_CHECK, sums.worked_answer(problem, checked=True))


def direct_function(rng: random.Random) -> str:
    pipeline = seen_pipeline(rng, DIRECT_PIPELINE_LENGTHS)
    return page(rng, pipeline.prompt, pipelines.direct_answer(pipeline))


def worked_function(rng: random.Random) -> str:
    pipeline = seen_pipeline(rng, WORKED_PIPELINE_LENGTHS)
    return page(rng, pipeline.prompt + ASK_FOR_STEPS, pipelines.worked_answer(pipeline))


def colour_chat(rng: random.Random) -> str:
    lines = "\n".join(" ".join(rng.choices(COLOURS, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 5)))
    return page(rng, f"Think of colours:\n{lines}", f"{THINK}\n{lines}\n{THINK_END}\n\n{lines}")


KINDS = (direct_sum, worked_sum, checked_sum, direct_function, worked_function, colour_chat)
SHARES = (0.20, 0.25, 0.15, 0.20, 0.12, 0.08)


def documents(seed: int) -> Iterator[str]:
    """The corpus, without end; the same pages in the same order for the same seed."""
    rng = random.Random(seed)
    while True:
        (kind,) = rng.choices(KINDS, SHARES)
        yield kind(rng)
