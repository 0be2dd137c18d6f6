"""Ours, evalplus and bare execution on the same samples: times, and every verdict that differs.

    python -m perf.grading --peer-python .venv-perf/bin/python --data MbppPlus.jsonl --cache /var/tmp/evalplus \
        --out perf/results/grading.json

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
    result: dict[str, Any] = {"samples": len(samples), "load_average_at_start": os.getloadavg()}
    ours_command = [sys.executable, "-m", "perf.grading.ours", str(path), str(folder / "ours.json")]
    result["ours"] = timed(ours_command, environment)
    if bare:
        result["bare"] = timed([sys.executable, "-m", "perf.grading.bare", str(path)], environment)
    ours = json.loads((folder / "ours.json").read_text())["verdicts"]
    peers = ["bare"] if bare else []
    if not options.without_evalplus:
        result |= against_evalplus(ours, samples, options, folder)
        peers.append("evalplus")
    for name in peers:
        for unit in ("cpu", "wall"):
            ratio = result["ours"][f"{unit}_seconds"] / result[name][f"{unit}_seconds"]
            result[f"{unit}_ratio_to_{name}"] = round(ratio, 3)
    result["right"] = sum(verdict["verdict"] == "right" for verdict in ours.values())
    return result


def against_evalplus(
    ours: dict[str, Any], samples: list[dict[str, str]], options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Verdicts that differ are asked again of evalplus with ten times its limits, for they are wall times."""
    times, peer = run_peer(samples, options, folder, "1")
    agreed, others = compare(ours, peer)
    result: dict[str, Any] = {"evalplus": times, "agreed": agreed}
    chosen = {other["sample"] for other in others}
    again = [sample for sample in samples if sample["_identifier"] in chosen]
    if again:
        _, slower = run_peer(again, options, folder, "10")
        more, others = compare({name: ours[name] for name in slower}, slower)
        result["agreed_when_evalplus_is_given_ten_times_its_wall_limits"] = agreed + more
    return {**result, "differences": others}


def run_peer(
    samples: list[dict[str, str]], options: argparse.Namespace, folder: Path, patience: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """(times, verdicts) of evalplus; its ground truth and the loading of it are not in the times."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "MBPP_OVERRIDE_PATH": str(options.data),
        "EVALPLUS_MAX_MEMORY_BYTES": "-1",
        "HOME": str(options.cache),
    }
    path, empty, answers = folder / "peer.jsonl", folder / "nothing.jsonl", folder / "peer.json"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    empty.touch()
    command = [str(options.peer_python), "perf/grading/peer.py"]
    if not (options.cache / "made").exists():
        timed([*command, str(empty), str(answers), patience], environment)
        (options.cache / "made").touch()
    loading = timed([*command, str(empty), str(answers), patience], environment)
    whole = timed([*command, str(path), str(answers), patience], environment)
    found = json.loads(answers.read_text())
    times = {
        "cpu_seconds": round(whole["cpu_seconds"] - loading["cpu_seconds"], 2),
        "wall_seconds": round(found["wall_seconds"], 2),
    }
    return times, found["verdicts"]


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
    parser.add_argument("--parts", nargs="+", default=["canonical", "mutants"])
    parser.add_argument("--without-evalplus", action="store_true", help="measure ours and bare execution only")
    parser.add_argument("--mutants-per-problem", type=int, default=7)
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    for name in ("peer_python", "data", "cache"):
        setattr(options, name, getattr(options, name).absolute())
    benchmark = load("mbpp-plus")
    canonical = [
        {"task_id": p.id, "solution": p.reference_solution or "", "_identifier": p.id} for p in benchmark.problems
    ]
    broken = [
        {"task_id": task, "solution": program, "_identifier": f"{task} #{n}: {what}"}
        for n, (task, program, what) in enumerate(mutants(benchmark, options.mutants_per_problem, options.seed))
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.cache.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    results["machine"] = machine()
    for part, samples in (("canonical", canonical), ("mutants", broken)):
        if part in options.parts:
            with tempfile.TemporaryDirectory(prefix="potstill-perf-") as folder:
                results[part] = measure(samples, options, Path(folder), bare=part == "canonical")
            options.out.write_text(json.dumps(results, indent=1) + "\n")
            print(json.dumps({k: v for k, v in results[part].items() if k != "differences"}, indent=1), flush=True)


if __name__ == "__main__":
    main()
