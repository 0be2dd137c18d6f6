"""The health check for Argo CD that docs/kubernetes.md shows, run as Lua."""

import re
from pathlib import Path
from typing import Any

import lupa
import pytest

PAGE = (Path(__file__).parents[2] / "docs/kubernetes.md").read_text()


def health_of(experiment: dict[str, Any]) -> tuple[str, str]:
    [check] = re.findall(r"^```lua\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lua = lupa.LuaRuntime()
    lua.globals().obj = lua.table_from(experiment, recursive=True)
    found = lua.execute(check)
    return found.status, found.message


def condition(kind: str, status: str, reason: str, message: str = "as it is") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


ACCEPTED = condition("Accepted", "True", "Accepted", "the experiment was accepted")
READY = condition("Ready", "True", "Observed")
RUNNING = condition("Finished", "False", "Running", "some work is not done")


@pytest.mark.parametrize(
    ("spec", "conditions", "health"),
    [
        ({}, None, ("Progressing", "the controller has not seen it yet")),
        ({}, [ACCEPTED], ("Progressing", "the experiment was accepted")),
        ({}, [ACCEPTED, READY, RUNNING], ("Progressing", "some work is not done")),
        ({"suspend": True}, [ACCEPTED, READY, RUNNING], ("Suspended", "spec.suspend is true")),
        ({}, [ACCEPTED, condition("Ready", "False", "StoreRegressed", "less"), RUNNING], ("Degraded", "StoreRegressed: less")),
        ({}, [ACCEPTED, READY, condition("Finished", "True", "Succeeded", "3 of 3")], ("Healthy", "Succeeded: 3 of 3")),
        ({}, [condition("Finished", "True", "Failed", "refused")], ("Degraded", "Failed: refused")),
        ({}, [READY, condition("Finished", "True", "PartiallyFailed", "2 of 3")], ("Degraded", "PartiallyFailed: 2 of 3")),
    ],
)  # fmt: skip
def test_argo_cd_shows(spec: dict[str, Any], conditions: list[dict[str, str]] | None, health: tuple[str, str]) -> None:
    status = {} if conditions is None else {"status": {"conditions": conditions}}
    assert health_of({"spec": spec, **status}) == health
