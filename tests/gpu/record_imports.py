"""Which modules the processes of a command import: `python -m tests.gpu.record_imports OUT COMMAND...`.

Each Python process below the command writes the modules that it has imported every two seconds, from a thread, for
vLLM's core ends without running exit handlers. OUT gets the union, one name a line: each module of vLLM, and of all
other packages the top-level name. On a GPU it records what `tests/evaluate/test_gpu_imports.py` imports without one:

    python -m tests.gpu.record_imports tests/evaluate/data/gpu-imports.txt python -m tests.gpu.check_vllm --out DIR
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

OWN = {"workloads", "controller", "tests", "perf", "sitecustomize"}
THREAD = """\
import os, sys, threading, time
def write(folder=os.environ["RECORD_IMPORTS"]):
    while True:
        time.sleep(2)
        path = os.path.join(folder, str(os.getpid()))
        with open(path + ".new", "w") as file:
            file.write("\\n".join(list(sys.modules)))
        os.replace(path + ".new", path)
def start():
    threading.Thread(target=write, daemon=True).start()
start()
os.register_at_fork(after_in_child=start)
"""


def main(out: str, command: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as path:
        (Path(path) / "sitecustomize.py").write_text(THREAD)
        search = os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))
        code = subprocess.run(command, env=os.environ | {"RECORD_IMPORTS": folder, "PYTHONPATH": search}).returncode
        names = {name for file in Path(folder).iterdir() for name in file.read_text().split("\n")}
    Path(out).write_text("".join(f"{name}\n" for name in sorted(third_party(names))))
    return code


def third_party(names: set[str]) -> set[str]:
    """Modules of vLLM, and top-level packages that have a file of their own outside of the standard library."""
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - OWN
    kept = {top for top in tops if top.isidentifier() and not top.startswith("_")}
    return {name for name in names if name.startswith("vllm.")} | kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
