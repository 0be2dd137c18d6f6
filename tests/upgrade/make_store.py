"""Makes the stores that the upgrade test reads: `python -P tests/upgrade/make_store.py CHECKOUT OUT.tar.xz`.

CHECKOUT is a checkout of the version that writes them. The archive holds `files/` (a tiny base, data, a benchmark and
the experiment), `finished/` (a store whose experiment ended) and `middle/` (a store whose programs and whose runner
were killed while the second training was running).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

EXPERIMENT = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: upgraded}
spec:
  base: {model: base}
  data: {sums: {uri: sums.jsonl, onShort: repeat}}
  training: {lora: {rank: 2, alpha: 4, target: [attention]}, batchSize: 2, samples: 400, checkpointEverySamples: 200}
  runs:
    - {name: short, data: sums, sequenceTokens: 48, overlong: truncate}
    - {name: long, data: sums, sequenceTokens: 64, overlong: drop}
  evaluation:
    benchmarks: [{name: own, uri: own.jsonl, grader: math}]
    budgets: [8, 16]
"""
SMALL_BASE = """\
import sys
from pathlib import Path
from tests.train import world
world.SIZES |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
world.SIZES |= {"head_dim": 8, "intermediate_size": 24}
world.write_base(Path(sys.argv[1]))
"""
DEADLINE_SECONDS = 900.0
UNWANTED = frozenset({".locks", ".writing", "report"})
"""Reports are large, and are made again from the manifest."""


def main(checkout: Path, archive: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_files(checkout, folder / "files")
        run_to_its_end(checkout, folder)
        run_to_the_middle(checkout, folder)
        with tarfile.open(archive, "w:xz", preset=9) as packed:
            for part in ("files", "finished", "middle"):
                packed.add(folder / part, part, filter=wanted)


def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if UNWANTED.isdisjoint(Path(member.name).parts) else None


def environment(checkout: Path, folder: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(checkout),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "XDG_STATE_HOME": str(folder / "state"),
    }


def write_files(checkout: Path, files: Path) -> None:
    files.mkdir()
    subprocess.run(
        [sys.executable, "-c", SMALL_BASE, str(files / "base")], env=environment(checkout, files), check=True
    )
    rows = [{"prompt": f"What is {n} + 1?", "response": f"<think>so</think>It is {n + 1}."} for n in range(60)]
    (files / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = [{"id": f"p{n}", "prompt": f"{n} + {n}", "answer": str(2 * n)} for n in range(4)]
    (files / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    (files / "upgraded.yaml").write_text(EXPERIMENT)


def start(checkout: Path, folder: Path, store: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from controller.cli import main; main()", "run"]
    return subprocess.Popen(
        [*command, str(folder / "files" / "upgraded.yaml"), "--store", str(folder / store)],
        env=environment(checkout, folder),
    )


def run_to_its_end(checkout: Path, folder: Path) -> None:
    code = start(checkout, folder, "finished").wait(DEADLINE_SECONDS)
    assert code == 0, code


def run_to_the_middle(checkout: Path, folder: Path) -> None:
    """Runs until one training is done, one evaluation is graded, and the other training has committed its first
    checkpoint.
    """
    runner = start(checkout, folder, "middle")
    end = time.monotonic() + DEADLINE_SECONDS
    while not in_the_middle(folder / "middle"):
        assert runner.poll() is None, "it ended before its middle was seen"
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(runner.pid, signal.SIGSTOP)
    for record in (folder / "state").glob("potstill/*/processes/*"):
        about = json.loads(record.read_text())
        try:
            os.killpg(about["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue
    runner.kill()
    runner.wait()
    shutil.rmtree(folder / "state")


def in_the_middle(store: Path) -> bool:
    done = list(store.glob("units/train/*/markers/done.json"))
    checkpoints = list(store.glob("units/train/*/markers/checkpoint-*.json"))
    return len(done) == 1 and len(checkpoints) == 3 and bool(list(store.glob("units/grade/*/markers/grades.json")))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
