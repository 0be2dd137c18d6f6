"""Makes the files under data/ from the published ones. Run once per version of the data, and commit what it writes:

    python -m workloads.benchmarks.prepare math500.jsonl MbppPlus.jsonl.gz

MBPP+'s expected values are what the canonical solutions return in this project's own sandbox, with the CPU seconds they
took. Large ones are digests, so the file stays small (a pickle of them all is 793 MB).
"""

import gzip
import hashlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from workloads.benchmarks.builtin import BUILTIN, DATA
from workloads.benchmarks.load import FAST_PROBLEMS
from workloads.benchmarks.mbpp import ORACLES, arguments_of
from workloads.sandbox.order import Order, Outcome, SandboxLimits
from workloads.sandbox.pool import run_all
from workloads.typed_json import encode_input

MATH_500_SHA256 = "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132"
MBPP_PLUS_MD5 = "ee43ecabebf20deef4bb776a405ac5b1"
REFERENCE_LIMITS = SandboxLimits(cpu_seconds=(120.0,) * 200, total_cpu_seconds=600.0, memory_bytes=8 << 30)
RECORDED_SECONDS = 0.05
"""Shorter tests are recorded as 0: their limit is the smallest one anyhow, and the file does not change for noise."""


def math_500(source: Path) -> tuple[str, list[str]]:
    """(prepared JSONL, ids of the fast subset)."""
    data = source.read_bytes()
    _expect(source, hashlib.sha256(data).hexdigest(), MATH_500_SHA256)
    rows = [json.loads(line) for line in data.decode().splitlines()]
    prepared = [
        {
            "id": row["unique_id"],
            "prompt": row["problem"],
            "answer": row["answer"],
            "solution": row["solution"],
            "subject": row["subject"],
            "level": row["level"],
        }
        for row in rows
    ]
    strata: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for row in prepared:
        strata[row["level"], row["subject"]].append(row["id"])
    return _lines(prepared), stratified(strata, FAST_PROBLEMS)


def stratified(strata: dict[tuple[Any, ...], list[str]], size: int) -> list[str]:
    """`size` ids, from each stratum its share (largest remainders), within it those of smallest SHA-256; sorted."""
    total = sum(len(ids) for ids in strata.values())
    exact = {key: size * len(ids) / total for key, ids in strata.items()}
    counts = {key: int(share) for key, share in exact.items()}
    by_remainder = sorted(strata, key=lambda key: (counts[key] - exact[key], str(key)))
    for key in by_remainder[: size - sum(counts.values())]:
        counts[key] += 1
    ordered = {key: sorted(ids, key=lambda i: hashlib.sha256(i.encode()).digest()) for key, ids in strata.items()}
    return sorted(i for key, ids in ordered.items() for i in ids[: counts[key]])


def mbpp_plus(source: Path) -> tuple[str, list[str]]:
    """(prepared JSONL, ids of the fast subset). Takes about a minute of two cores."""
    data = gzip.decompress(source.read_bytes())
    _expect(source, hashlib.md5(data, usedforsecurity=False).hexdigest(), MBPP_PLUS_MD5)
    rows = [json.loads(line) for line in data.decode().splitlines()]
    orders = [_reference_order(row, suite) for row in rows for suite in ("base", "plus")]
    outcomes: dict[str, Outcome] = {}
    for outcome in run_all(orders, workers=2):
        if not isinstance(outcome, Outcome) or outcome.end != "finished":
            raise SystemExit(f"the canonical solution did not finish: {outcome}")
        outcomes[outcome.key] = outcome
    orders_by_key = {order.key: order for order in orders}
    prepared = [
        {
            "id": row["task_id"],
            "prompt": row["prompt"],
            "entry_point": row["entry_point"],
            "solution": row["prompt"] + row["canonical_solution"],
            "suites": [_suite(row, name, orders_by_key, outcomes) for name in ("base", "plus")],
        }
        for row in rows
    ]
    return _lines(prepared), stratified({(): [row["task_id"] for row in rows]}, FAST_PROBLEMS)


def _reference_order(row: dict[str, Any], suite: str) -> Order:
    return Order(
        key=f"{row['task_id']} {suite}",
        program=row["prompt"] + row["canonical_solution"],
        entry_point=row["entry_point"],
        arguments=tuple(encode_input(list(arguments_of(row["task_id"], i))) for i in row[f"{suite}_input"]),
        limits=REFERENCE_LIMITS,
    )


def _suite(row: dict[str, Any], name: str, orders: dict[str, Order], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    key = f"{row['task_id']} {name}"
    outcome = outcomes[key]
    return {
        "name": name,
        "arguments": list(orders[key].arguments),
        "expected": list(outcome.values),
        "seconds": [round(s, 2) if s >= RECORDED_SECONDS else 0 for s in outcome.seconds],
        "tolerance": row["atol"],
        "oracle": ORACLES.get(row["entry_point"], "equal"),
    }


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _expect(source: Path, found: str, known: str) -> None:
    if found != known:
        raise SystemExit(f"{source}: hash {found}, and the published file has {known}")


def main(arguments: list[str]) -> None:
    math_source, mbpp_source = map(Path, arguments)
    DATA.mkdir(exist_ok=True)
    for name, (text, fast) in (("math-500", math_500(math_source)), ("mbpp-plus", mbpp_plus(mbpp_source))):
        data = text.encode()
        path = BUILTIN[name].path
        path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
        (DATA / f"{name}.fast.txt").write_text("".join(f"{problem_id}\n" for problem_id in fast))
        print(f"{path.name}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1:])
