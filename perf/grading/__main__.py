"""Ours, evalplus and bare execution on the same samples in one run: times, ratios, and every verdict that differs.

    python -m perf.grading --peer-python .venv-perf/bin/python --data MbppPlus.jsonl --cache /var/tmp/evalplus \
        --out perf/results/grading-2-cores.json

`--data` is MBPP+ v0.2.0's published JSONL, which evalplus reads; `--peer-python` is of an environment with the group
`perf`. Two sets: the canonical solutions, and mutants of them. CPU seconds are those of each side's whole process tree
and include its start; wall times stand beside them. Of evalplus what it needs without a sample is taken off (and its
wall time begins with the first sample), because it loads its ground truth then, which is made before. `--problems N`
takes only the first N problems; `--without-bare` compares verdicts and leaves bare execution out.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perf.grading.mutants import mutants
from workloads.benchmarks.load import load

ROOT = Path(__file__).parents[2]

Sample = dict[str, str]


@dataclass(frozen=True)
class Times:
    """Of a process and all that it started and waited for."""

    cpu_seconds: float
    wall_seconds: float

    def rounded(self) -> dict[str, float]:
        return {"cpu_seconds": round(self.cpu_seconds, 2), "wall_seconds": round(self.wall_seconds, 2)}


@dataclass(frozen=True)
class Peer:
    """evalplus: its interpreter, MBPP+ as published, where it keeps its ground truth, and the problems of this run."""

    python: Path
    data: Path
    cache: Path
    problems: tuple[str, ...]


def timed(command: list[str], environment: dict[str, str]) -> Times:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Times(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def compare(ours: dict[str, Any], peer: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """(how many agree, the others). evalplus says right when base and plus are `pass`."""
    agreed, others = 0, []
    for name, verdict in ours.items():
        theirs = peer[name]
        if (verdict["verdict"] == "right") == (theirs["base"] == theirs["plus"] == "pass"):
            agreed += 1
        else:
            others.append({"sample": name, "ours": verdict, "evalplus": theirs})
    return agreed, others


def measure(samples: list[Sample], peer: Peer, folder: Path, *, broken: bool, bare: bool) -> dict[str, Any]:
    """One set by all three, one after another; `bare` False leaves bare execution out."""
    path, answers = folder / "samples.jsonl", folder / "ours.json"
    _write(path, samples)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result: dict[str, Any] = {"samples": len(samples), "load_average_at_start": os.getloadavg()}
    ours = timed([sys.executable, "-m", "perf.grading.ours", str(path), str(answers)], environment)
    others: dict[str, Times] = {}
    if bare:
        flags = ["--broken"] if broken else []
        others["bare"] = timed([sys.executable, "-m", "perf.grading.bare", str(path), *flags], environment)
    verdicts = json.loads(answers.read_text())["verdicts"]
    others["evalplus"], peer_verdicts = run_peer(samples, peer, folder, patience=1)
    result |= {name: times.rounded() for name, times in (("ours", ours), *others.items())}
    for name, times in others.items():
        result[f"cpu_ratio_to_{name}"] = round(ours.cpu_seconds / times.cpu_seconds, 3)
        result[f"wall_ratio_to_{name}"] = round(ours.wall_seconds / times.wall_seconds, 3)
    result["right"] = sum(verdict["verdict"] == "right" for verdict in verdicts.values())
    result["right_by_evalplus"] = sum(v["base"] == v["plus"] == "pass" for v in peer_verdicts.values())
    return {**result, **agreement(verdicts, peer_verdicts, samples, peer, folder)}


def agreement(
    ours: dict[str, Any], theirs: dict[str, Any], samples: list[Sample], peer: Peer, folder: Path
) -> dict[str, Any]:
    """Verdicts that differ are asked again of evalplus with ten times its limits, for they are wall times."""
    agreed, others = compare(ours, theirs)
    chosen = {other["sample"] for other in others}
    if chosen:
        _, slower = run_peer([s for s in samples if s["_identifier"] in chosen], peer, folder, patience=10)
        for other in others:
            other["evalplus_given_ten_times_its_limits"] = slower[other["sample"]]
    return {"agreed": agreed, "differences": others}


def run_peer(samples: list[Sample], peer: Peer, folder: Path, *, patience: int) -> tuple[Times, dict[str, Any]]:
    """(times, verdicts) of evalplus with two workers; its ground truth and the loading of it are not in the times."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "MBPP_OVERRIDE_PATH": str(peer.data),
        "EVALPLUS_MAX_MEMORY_BYTES": "-1",
        "HOME": str(peer.cache),
    }
    path, nothing, answers = folder / "peer.jsonl", folder / "nothing.jsonl", folder / "peer.json"
    problems = folder / "problems.json"
    _write(path, samples)
    _write(nothing, [])
    problems.write_text(json.dumps(peer.problems))

    def run(asked: Path) -> Times:
        command = [str(peer.python), "perf/grading/peer.py", str(asked), str(answers), str(patience), str(problems)]
        return timed(command, environment)

    made = peer.cache / f"made-{len(peer.problems)}"
    if not made.exists():
        run(nothing)
        made.touch()
    loading = run(nothing)
    whole = run(path)
    found = json.loads(answers.read_text())
    return Times(whole.cpu_seconds - loading.cpu_seconds, found["wall_seconds"]), found["verdicts"]


def _write(path: Path, samples: list[Sample]) -> None:
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.grading")
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="where evalplus keeps its ground truth (800 MB)")
    parser.add_argument("--problems", type=int, help="only this many, from the first on")
    parser.add_argument("--mutants-per-problem", type=int, default=7)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--without-bare", action="store_true", help="verdicts and evalplus's times only")
    options = parser.parse_args()
    benchmark = load("mbpp-plus")
    chosen = benchmark.problems[: options.problems]
    canonical = [{"task_id": p.id, "solution": p.reference_solution or "", "_identifier": p.id} for p in chosen]
    broken = [
        {"task_id": task, "solution": program, "_identifier": f"{task} #{n}: {what}"}
        for n, (task, program, what) in enumerate(mutants(chosen, options.mutants_per_problem, options.seed))
    ]
    cache = options.cache.absolute()
    peer = Peer(options.peer_python.absolute(), options.data.absolute(), cache, tuple(p.id for p in chosen))
    cache.mkdir(parents=True, exist_ok=True)
    asked = {name: getattr(options, name) for name in ("problems", "mutants_per_problem", "seed")}
    results: dict[str, Any] = {"asked": asked, "machine": machine()}
    for part, samples in (("canonical", canonical), ("mutants", broken)):
        with tempfile.TemporaryDirectory(prefix="potstill-perf-") as folder:
            results[part] = measure(
                samples, peer, Path(folder), broken=part == "mutants", bare=not options.without_bare
            )
        print(json.dumps({k: v for k, v in results[part].items() if k != "differences"}, indent=1), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
