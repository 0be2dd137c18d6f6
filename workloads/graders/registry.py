"""Graders by name. A new one is an entry here, or an entry point in `potstill.graders`."""

from workloads.api.units import GRADER_VERSION
from workloads.graders.base import Grader
from workloads.graders.choice import CHOICE
from workloads.graders.code.definition import CODE
from workloads.graders.exact import EXACT
from workloads.graders.math.definition import MATH
from workloads.registry import Registry

GRADERS = Registry[Grader]("grader", "potstill.graders", Grader, {one.name: one for one in (MATH, CODE, EXACT, CHOICE)})


def added_version(grader: str) -> str | None:
    """Returns the version of an added grader, which decides verdicts; None for a built-in one (GRADER_VERSION).

    It names the distribution, so that outputs are graded again when a new version of it is installed.
    """
    package = GRADERS.version_of(grader)
    return None if package is None else f"{GRADER_VERSION}+{package.replace(' ', '-')}"
