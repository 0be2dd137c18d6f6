"""Which modules the processes of a command import: `python -m tests.gpu.record_imports OUT COMMAND...`.

Each Python process below the command writes the name of a module once it is imported, from an audit hook: vLLM's core
is forked from a process without threads, and ends without running exit handlers. OUT gets vLLM's modules, one a line; they
import the rest. On a GPU it records what `tests/evaluate/test_gpu_imports.py` imports without one:

    python -m tests.gpu.record_imports tests/evaluate/data/gpu-imports.txt python -m tests.gpu.check_vllm --out DIR
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOOK = """\
import os, sys
file = os.open(os.environ["RECORD_IMPORTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
pending = set()
def hook(event, arguments):
    if event != "import":
        return
    for name in list(pending):
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is not None and not getattr(spec, "_initializing", False):
            pending.discard(name)
            os.write(file, (name + "\\n").encode())
    pending.add(arguments[0])
sys.addaudithook(hook)
"""


def main(out: str, command: list[str]) -> int:
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "sitecustomize.py").write_text(HOOK)
        record = Path(path) / "names"
        search = os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"RECORD_IMPORTS": str(record), "PYTHONPATH": search}
        code = subprocess.run(command, env=environment).returncode
        names = set(record.read_text().split())
    Path(out).write_text("".join(f"{name}\n" for name in sorted(names) if name.startswith("vllm.")))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
