"""Measures every family and writes the table of docs/models.md: `python -m tests.models.table [--vllm] [NAME ...]`.

Without `--vllm` it measures all columns but vLLM's; with it (in an environment with vLLM on a CPU) only vLLM's. The
values are stored in docs/assets/models.json, from which the table is made.
"""

import json
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

DOCS = Path(__file__).parents[2] / "docs"
FIGURES, PAGE = DOCS / "assets" / "models.json", DOCS / "models.md"
BEGIN, END = "<!-- table of models: python -m tests.models.table -->\n", "<!-- end of the table -->\n"
COLUMNS = {
    "losses": "Losses, relative",
    "peft": "In peft, nats",
    "transformers": "Canary, transformers engine, nats",
    "vllm": "Canary, vLLM, nats",
}


def measure(folder: Path, name: str) -> dict[str, float]:
    from tests.models import test_families as acceptance

    trained = acceptance.train_tiny(folder, acceptance.BY_NAME[name], acceptance.lora_of(acceptance.BY_NAME[name]))
    expected = acceptance.plain_losses(trained)
    ours = trained.losses(folder / "losses")
    return {
        "losses": max(abs(a - b) / b for a, b in zip(ours, expected, strict=True)),
        "peft": acceptance.peft_error(trained, folder / "adapter"),
        "transformers": acceptance.canary_error(trained.world, trained),
    }


def measure_vllm(folder: Path, name: str) -> dict[str, float]:
    from tests.models import test_families as acceptance
    from tests.models.test_families_vllm import engine_of
    from tests.models.tiny import vllm_sizes

    family = acceptance.BY_NAME[name]
    trained = acceptance.train_tiny(folder, family, acceptance.lora_of(family), **vllm_sizes(family))
    return {"vllm": acceptance.canary_error(replace(trained.world, engine=engine_of(family)), trained)}


def rows(figures: dict[str, dict[str, float]]) -> list[str]:
    from workloads.models import FAMILIES

    lines = [f"| Model | Architecture | Trainer | Targets | {' | '.join(COLUMNS.values())} |", "|---" * 8 + "|"]
    for family in FAMILIES.values():
        found = figures.get(family.name, {})
        cells = [f"{found[column]:.0e}" if column in found else "" for column in COLUMNS]
        trainer = "fast, general" if family.fast else "general"
        kinds = ", ".join(family.kinds)
        lines.append(f"| {family.title} | `{family.architecture}` | {trainer} | {kinds} | {' | '.join(cells)} |")
    return lines


def write_page(figures: dict[str, dict[str, float]]) -> None:
    text = PAGE.read_text()
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    PAGE.write_text(head + "\n" + "\n".join(rows(figures)) + "\n\n" + tail)


def main() -> None:
    from workloads.models import FAMILIES

    torch.set_num_threads(1)
    by_vllm = "--vllm" in sys.argv
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    for family in FAMILIES.values():
        if (names and family.name not in names) or (by_vllm and not family.vllm_lora):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = (measure_vllm if by_vllm else measure)(Path(folder), family.name)
        print(family.name, found, version("transformers"), flush=True)
        figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        figures[family.name] = figures.get(family.name, {}) | found
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        write_page(figures)


if __name__ == "__main__":
    main()
