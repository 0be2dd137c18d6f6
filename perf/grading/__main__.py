"""Ours, evalplus and bare execution on the same samples: times, and every verdict that differs.

    python -m perf.grading --peer-python .venv-perf/bin/python --data MbppPlus.jsonl --out perf/results/grading.json

`--data` is MBPP+ v0.2.0's published JSONL, which evalplus reads. CPU seconds are those of each side's whole process
tree (evalplus without its ground truth, which is computed in a run before), so that a busy machine does not decide; the
wall times stand beside them.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perf.grading.mutants import mutants
from workloads.benchmarks import load

ROOT = Path(__file__).parents[2]


def timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """CPU and wall seconds of a command and all that it started and waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = datetime.now(UTC)
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": round(cpu, 2), "wall_seconds": round((datetime.now(UTC) - start).total_seconds(), 2)}


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


def measure(samples: list[dict[str, str]], options: argparse.Namespace, folder: Path, *, bare: bool) -> dict[str, Any]:
    path = folder / "samples.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    peer_environment = {
        **environment, "MBPP_OVERRIDE_PATH": str(options.data), "EVALPLUS_MAX_MEMORY_BYTES": "-1", "HOME": str(folder),
    }  # fmt: skip
    result: dict[str, Any] = {"samples": len(samples)}
    result["ours"] = timed(
        [sys.executable, "-m", "perf.grading.ours", str(path), str(folder / "ours.json")], environment
    )
    if bare:
        result["bare"] = timed([sys.executable, "-m", "perf.grading.bare", str(path)], environment)
    peer = [str(options.peer_python), "perf/grading/peer.py"]
    nothing = folder / "nothing.jsonl"
    nothing.touch()
    timed([*peer, str(nothing), str(folder / "peer.json")], peer_environment)
    ground_truth = timed([*peer, str(nothing), str(folder / "peer.json")], peer_environment)
    whole = timed([*peer, str(path), str(folder / "peer.json")], peer_environment)
    result["evalplus"] = {
        "cpu_seconds": round(whole["cpu_seconds"] - ground_truth["cpu_seconds"], 2),
        "wall_seconds": round(json.loads((folder / "peer.json").read_text())["wall_seconds"], 2),
    }
    ours = json.loads((folder / "ours.json").read_text())["verdicts"]
    agreed, others = compare(ours, json.loads((folder / "peer.json").read_text())["verdicts"])
    result |= {
        "right": sum(verdict["verdict"] == "right" for verdict in ours.values()),
        "agreed": agreed,
        "differences": others,
        "cpu_ratio_to_evalplus": round(result["ours"]["cpu_seconds"] / result["evalplus"]["cpu_seconds"], 3),
        "wall_ratio_to_evalplus": round(result["ours"]["wall_seconds"] / result["evalplus"]["wall_seconds"], 3),
    }
    if bare:
        result["cpu_ratio_to_bare"] = round(result["ours"]["cpu_seconds"] / result["bare"]["cpu_seconds"], 3)
        result["wall_ratio_to_bare"] = round(result["ours"]["wall_seconds"] / result["bare"]["wall_seconds"], 3)
    return result


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_at_start": os.getloadavg(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.grading")
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mutants-per-problem", type=int, default=7)
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    options.peer_python, options.data = options.peer_python.absolute(), options.data.absolute()
    benchmark = load("mbpp-plus")
    canonical = [
        {"task_id": p.id, "solution": p.reference_solution or "", "_identifier": p.id} for p in benchmark.problems
    ]
    broken = [
        {"task_id": task, "solution": program, "_identifier": f"{task} #{n}: {what}"}
        for n, (task, program, what) in enumerate(mutants(benchmark, options.mutants_per_problem, options.seed))
    ]
    results: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv[1:])}
    with tempfile.TemporaryDirectory(prefix="potstill-perf-") as folder:
        results["canonical"] = measure(canonical, options, Path(folder), bare=True)
        print(json.dumps(results["canonical"], indent=1), flush=True)
        results["mutants"] = measure(broken, options, Path(folder), bare=False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({k: v for k, v in results["mutants"].items() if k != "differences"}, indent=1))


if __name__ == "__main__":
    main()
