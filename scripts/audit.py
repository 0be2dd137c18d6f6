"""Looks up every package of the images in the advisories that pip-audit asks (PyPI's own, or OSV with --service osv).

    python scripts/audit.py [--service pypi|osv]

Exit 0: no known vulnerability. 1: there are some, printed. 2: the advisories cannot be reached, or know nothing: then a
package that is known to be vulnerable is not found to be so either, and a clean result would mean nothing.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP_AUDIT = "pip-audit==2.10.1"
KNOWN = ("jinja2==2.10", "CVE-2019-10906")
"""A package with an advisory since 2019."""
IMAGES = ("train", "train-gpu", "evaluate", "grade", "ui")
"""Extras of the images; the controller's image has none."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi")
    service = parser.parse_args().service
    done = subprocess.run([sys.executable, "scripts/find_uv.py"], cwd=ROOT, check=True, capture_output=True, text=True)
    uv = done.stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        known, ours = Path(folder) / "known.txt", Path(folder) / "ours.txt"
        known.write_text(KNOWN[0] + "\n")
        found = audit(uv, service, known)
        if found.returncode == 0 or KNOWN[1] not in found.stdout:
            last = (found.stderr.strip() or found.stdout.strip() or "no answer").splitlines()[-1]
            print(
                f"the advisories of {service} cannot be reached from here: {KNOWN[0]}, which has {KNOWN[1]}, was not "
                f"found to be vulnerable. Nothing was audited. pip-audit said: {last}",
                file=sys.stderr,
            )
            return 2
        extras = [f"--extra={extra}" for extra in IMAGES]
        export = [uv, "export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project", *extras]
        subprocess.run([*export, f"--output-file={ours}"], cwd=ROOT, check=True)
        found = audit(uv, service, ours)
    print(found.stdout, end="")
    if found.returncode != 0:
        print(found.stderr, end="", file=sys.stderr)
    return 1 if found.returncode else 0


def audit(uv: str, service: str, requirements: Path) -> subprocess.CompletedProcess[str]:
    """pip-audit over pinned requirements; one that it cannot look up is a failure (`--strict`)."""
    words = ["--strict", "--disable-pip", "--no-deps", "--progress-spinner=off", "--desc=off", "--aliases=on"]
    words.append(f"--vulnerability-service={service}")
    command = [uv, "tool", "run", "--quiet", PIP_AUDIT, *words, f"--requirement={requirements}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
