"""The distribution of the pages docs/development/add-*.md, written to a folder like an installation by pip."""

import re
import tomllib
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "development"
BLOCK = re.compile(r'^```[a-z]+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


def shown_files() -> dict[str, str]:
    """Returns every file that a page shows, by the title of its block."""
    pages = [*sorted(PAGES.glob("add-a*.md")), PAGES / "extensions.md"]
    return {name: text for page in pages for name, text in BLOCK.findall(page.read_text(encoding="utf-8"))}


def install(site: Path) -> Path:
    """Writes the modules of `toy` and its entry points to `site`. Returns `site`, for PYTHONPATH."""
    files = shown_files()
    for name, text in files.items():
        if name.startswith("toy/"):
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    (site / "toy" / "__init__.py").touch()
    project = tomllib.loads(files["pyproject.toml"])["project"]
    write_metadata(site, project["name"], project["version"], project["entry-points"])
    return site


def write_metadata(site: Path, name: str, version: str, groups: dict[str, dict[str, str]]) -> None:
    """Writes `<name>-<version>.dist-info` by the specification of entry points."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), "")
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
