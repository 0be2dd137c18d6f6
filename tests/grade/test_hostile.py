"""No hostile program passes, none escapes, and the program after it is graded right."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.grade.hostile_programs import ALL as PROGRAMS
from tests.grade.hostile_programs import DISK, ESCAPES, SEARCHES, Hostile
from tests.grade.hostile_tricks import TRICKS
from workloads.benchmarks.model import Suite
from workloads.benchmarks.registry import BENCHMARKS
from workloads.graders.code.oracles import judge
from workloads.sandbox.order import Order, Outcome, SandboxLimits, outcome_from

ROOT = Path(__file__).parents[2]
ALL = [*PROGRAMS, *TRICKS]
QUICK = [hostile for hostile in ALL if hostile.cause != "timeout"]
"""For the variants of the layers, because time limits are the same in all of them."""
HONEST = "def double(x):\n    return 2 * x\n"
SUITE = Suite("tests", ('["l",1]', '["l",2]'), ("2", "4"), (0.0, 0.0))
LIMITS = SandboxLimits(
    cpu_seconds=(0.5, 0.5),
    total_cpu_seconds=1.0,
    encode_cpu_seconds=0.5,
    memory_bytes=1 << 27,
    wall_factor=20.0,
    wall_extra_seconds=2.0,
    idle_seconds=3.0,
)
PATIENT = replace(LIMITS, cpu_seconds=(10.0, 10.0), total_cpu_seconds=20.0, encode_cpu_seconds=10.0)
"""For programs that another limit must end: a machine may need half a second to find 128 MiB of memory."""
SYSTEM_PYTHON = Path("/usr/bin/python3")
NOBODY = 65534

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
"""Programs that wait take minutes on a busy machine."""


def _order(key: str, program: str, limits: SandboxLimits = LIMITS) -> Order:
    return Order(
        key, program.replace("{data!r}", repr(str(BENCHMARKS["mbpp-plus"].path))), "double", SUITE.arguments, limits
    )


def _run(
    hostile: list[Hostile], options: dict[str, bool], user: int | None, temporary: Path = Path("/tmp")
) -> tuple[list[str], dict[str, Outcome]]:
    """Each hostile program, an honest one after it, all in one sandbox server."""
    orders = []
    for number, attack in enumerate(hostile):
        limits = LIMITS if attack.cause == "timeout" else PATIENT
        orders += [_order(attack.name, attack.program, limits), _order(f"honest after {number}", HONEST)]
    python = sys.executable if user is None else str(SYSTEM_PYTHON)
    done = subprocess.run(
        [python, str(ROOT / "tests/grade/run_orders.py"), str(ROOT), json.dumps(options)],
        input="".join(order.to_json() + "\n" for order in orders),
        env={"PATH": os.environ["PATH"], "SECRET": "must not be seen", "TMPDIR": str(temporary)},
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    layers, *outcomes = map(json.loads, done.stdout.splitlines())
    return layers, {outcome["key"]: outcome_from(outcome) for outcome in outcomes}


def _check(hostile: list[Hostile], outcomes: dict[str, Outcome]) -> None:
    differences = []
    for number, attack in enumerate(hostile):
        verdict = judge(SUITE, outcomes[attack.name])
        if verdict.passed or verdict.cause != attack.cause or attack.detail not in verdict.detail:
            differences.append(f"{attack.name}: {verdict}")
        if not judge(SUITE, outcomes[f"honest after {number}"]).passed:
            differences.append(f"after {attack.name}: {outcomes[f'honest after {number}']}")
    assert not differences, "\n".join(differences)


@pytest.mark.long
def test_as_this_user_with_all_layers() -> None:
    layers, outcomes = _run(ALL, {"namespaces": True, "landlock": True}, None)
    assert "seccomp" in layers
    _check(ALL, outcomes)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs a Python that every user can read")
@pytest.mark.long
def test_as_a_user_without_rights() -> None:
    has_numpy = subprocess.run([SYSTEM_PYTHON, "-c", "import numpy"], capture_output=True, check=False).returncode == 0
    programs = [hostile for hostile in ALL if has_numpy or "import numpy" not in hostile.program]
    layers, outcomes = _run(programs, {"namespaces": True, "landlock": True}, NOBODY)
    assert "seccomp" in layers
    _check(programs, outcomes)


def test_with_its_own_root_and_without_landlock() -> None:
    layers, outcomes = _run([*SEARCHES, *ESCAPES], {"namespaces": True, "landlock": False}, None)
    if "own root" not in layers:
        pytest.skip("no namespaces for this user on this machine")
    assert "landlock" not in layers
    _check([*SEARCHES, *ESCAPES], outcomes)


def test_without_namespaces() -> None:
    layers, outcomes = _run(QUICK, {"namespaces": False, "landlock": True}, None)
    assert "own root" not in layers
    _check(QUICK, outcomes)


def test_without_namespaces_and_landlock_nothing_can_be_opened() -> None:
    layers, outcomes = _run(QUICK, {"namespaces": False, "landlock": False}, None)
    assert "no files at all" in layers
    imports = {"math_verify", "socket", "urllib", "multiprocessing", "subprocess", "colorsys", "fcntl", "mmap"}
    same = [h for h in QUICK if not any(name in h.program for name in imports)]
    _check(same, outcomes)
    for attack in QUICK:
        if attack not in same:
            assert not judge(SUITE, outcomes[attack.name]).passed, attack.name


def test_the_private_folder_is_bounded_and_new_each_time() -> None:
    layers, outcomes = _run(DISK, {"namespaces": True, "landlock": True}, None)
    if "bounded folder" not in layers:
        pytest.skip("no namespaces for this user on this machine")
    _check(DISK, outcomes)


def test_without_a_private_folder_nothing_is_written() -> None:
    _, outcomes = _run(DISK, {"namespaces": False, "landlock": True}, None)
    _check([replace(h, detail="PermissionError") for h in DISK], outcomes)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    layers, _ = _run(ALL[:3], {"namespaces": True, "landlock": True}, None, tmp_path)
    assert layers
    assert list(tmp_path.iterdir()) == []
