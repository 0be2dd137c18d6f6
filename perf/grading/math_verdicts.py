"""Shares of wrong verdicts over all forms of MATH-500's golds (`math_forms`), beside math-verify's own.

    python -m perf.grading.math_verdicts --out FILE [--every N]

`before` is math-verify over the texts as they are written, which is how the grader compared them until version grade-1.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from math_verify import parse, verify

from perf.grading.math_forms import Pair, forms
from workloads.benchmarks.load import load
from workloads.graders.checking.client import AnswerCheck, check_all
from workloads.graders.math.costs import refusal_reason


def pairs(every: int = 1) -> list[Pair]:
    """Each distinct pair once; of each gold's every `every`-th, each gold's from another place on."""
    golds = dict.fromkeys(str(problem.answer) for problem in load("math-500").problems)
    found: dict[tuple[str, str], Pair] = {}
    for number, gold in enumerate(golds):
        for pair in list(forms(gold))[number % every :: every]:
            found.setdefault((gold, pair.answer), pair)
    return list(found.values())


def before(pair: Pair) -> bool:
    values: list[Any] = []
    for text in (pair.gold, pair.answer):
        boxed = text if "\\boxed{" in text else f"\\boxed{{{text}}}"
        values.append(parse(boxed, parsing_timeout=None, raise_on_error=True))
    return bool(verify(values[0], values[1], timeout_seconds=None, raise_on_error=True))


def before_or_none(pair: Pair) -> bool | None:
    try:
        return None if refusal_reason(pair.answer) else before(pair)
    except Exception:
        return None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.grading.math_verdicts")
    parser.add_argument("--out", type=Path, required=True, help="a line per pair that was or is judged wrongly")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    asked = pairs(options.every)
    replies = check_all(
        {str(i): AnswerCheck("math", p.answer, p.gold) for i, p in enumerate(asked)}, options.workers
    ).replies
    counts = Counter[str]()
    lines = []
    for index, pair in enumerate(asked):
        reply = replies[str(index)]
        now = reply["right"] if isinstance(reply, dict) else False
        was = before_or_none(pair)
        kind = "equal" if pair.right else "near miss"
        counts[f"{kind}: all"] += 1
        counts[f"{kind}: wrong verdicts before"] += was != pair.right
        counts[f"{kind}: wrong verdicts now"] += now != pair.right
        counts["right verdicts lost"] += was == pair.right != now
        if now != pair.right or was != pair.right:
            found = {**vars(pair), "before": was, "now": now, "reply": str(reply)[:200]}
            lines.append(json.dumps(found, ensure_ascii=False))
    options.out.write_text("\n".join(lines) + "\n")
    print(json.dumps(dict(sorted(counts.items())), indent=1))


if __name__ == "__main__":
    main()
