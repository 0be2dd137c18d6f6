"""`potstill doctor`: checks whether this machine can run an experiment, and says what to do if it cannot."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from controller.cli.checks import Check, made
from controller.cli.common import DEFAULT_STORE, StoreUrl, wide_console
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.terminal import shown

STYLES = {"good": "green", "advice": "yellow", "blocks": "bold red"}


def doctor(
    store: StoreUrl = DEFAULT_STORE,
    base: Annotated[
        str | None, typer.Option("--base", help="A base to look for: a directory, or owner/name[@commit] of the hub.")
    ] = None,
    json_to: JsonTo = None,
) -> None:
    """Check this machine, the store and the hub. Prints a line for each check, with what to do if it fails.

    Exit 0 if nothing blocks a run on this machine, else 1. Example: potstill doctor --base Qwen/Qwen3-8B-Base
    """
    checks = all_checks(store, base)
    blocked = any(check.state == "blocks" for check in checks)
    write_json(json_to, "doctor", {"blocked": blocked, "checks": checks})
    if shows_text(json_to):
        console, width = wide_console(), max(len(check.name) for check in checks)
        for check in checks:
            console.print(_line(check, width), soft_wrap=True)
        print("a run on this machine is blocked" if blocked else "nothing blocks a run on this machine")
    raise typer.Exit(1 if blocked else 0)


def all_checks(store: str, base: str | None) -> tuple[Check, ...]:
    from controller.cli import (  # imported here, so that other commands start faster
        added_checks,
        machine_checks,
        place_checks,
    )

    folder = None if base is None or not Path(base).is_dir() else Path(base)
    asked: tuple[tuple[str, Callable[[], Check | Iterable[Check]]], ...] = (
        ("Python", machine_checks.check_python),
        ("packages", machine_checks.check_packages),
        ("added parts", added_checks.check_added_parts),
        ("GPU", machine_checks.check_gpus),
        ("torch", machine_checks.check_torch),
        ("vLLM", machine_checks.check_vllm),
        ("memory", lambda: machine_checks.check_memory(folder)),
        ("disk", lambda: place_checks.check_disks(store)),
        ("sandbox", machine_checks.check_sandbox),
        ("store", lambda: place_checks.check_store(store)),
        ("hub", lambda: place_checks.check_hub(None if folder else base)),
    )
    return tuple(check for name, function in asked for check in made(name, function))


def _line(check: Check, width: int) -> Text:
    todo = f" -> {check.todo}" if check.todo else ""
    return shown(f"{check.state:6} {check.name:{width}}  {check.finding}{todo}", STYLES[check.state])
