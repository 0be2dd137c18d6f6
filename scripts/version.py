"""Prints the version of the project, which is stated in pyproject.toml."""

import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def version() -> str:
    """For instance: 0.1.0."""
    stated: str = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]
    return stated


if __name__ == "__main__":
    print(version())
