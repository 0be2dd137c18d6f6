"""The files with a model's weights, in the Hugging Face layout."""

import json
from pathlib import Path

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class BadWeightFiles(Exception):
    """The directory's weights cannot be loaded. The message names the file and what to do."""


def check_weight_files(directory: Path) -> None:
    """Checks that the directory has model.safetensors, or an index and every file in the index.

    Raises BadWeightFiles.

    Source: transformers' and vLLM's loaders. Without an index transformers finds nothing in several files.
    """
    if (directory / SINGLE).is_file():
        return
    index = directory / INDEX
    if not index.is_file():
        present = sorted(path.name for path in directory.iterdir() if path.suffix in {".safetensors", ".bin"})
        shown = ", ".join(present[:3]) + (" ..." if len(present) > 3 else "")
        found = f"it has {shown}" if present else "it has no weights"
        raise BadWeightFiles(
            f"{directory} has neither {SINGLE} nor {INDEX} ({found}): save the model again with save_pretrained"
        )
    try:
        named = set(json.loads(index.read_text())["weight_map"].values())
        missing = sorted(name for name in named if not (directory / Path(name).name).is_file())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadWeightFiles(f"{index} is not an index of safetensors files: {error!r}") from error
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise BadWeightFiles(f"{index} names files that do not exist: {shown}; copy the whole model again")


def loading_phase(directory: Path) -> str:
    """Returns the progress text while a model is loaded, with the size of its weights: loading weights (61.1 GB)."""
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"loading weights ({size / factor:.1f} {unit})"
    return f"loading weights ({size / 1e3:.1f} kB)"
