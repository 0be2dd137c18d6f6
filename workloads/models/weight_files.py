"""Which files hold a model's weights, in the Hugging Face layout, and which tensors are in them. No torch."""

import json
from pathlib import Path

from workloads.models.safetensors_file import BadSafetensors, TensorEntry, read_header

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class BadWeightFiles(Exception):
    """The directory's weights cannot be loaded. The message names the file and what to do."""


def check_weight_files(directory: Path) -> None:
    """The directory holds model.safetensors, or an index and every file that the index names. Raises BadWeightFiles."""
    _weight_files(directory)


def read_weights(directory: Path) -> dict[str, TensorEntry]:
    """The tensors of the model by name, from the headers of its files: no weight is read. Raises BadWeightFiles."""
    found: dict[str, TensorEntry] = {}
    for path in _weight_files(directory):
        try:
            found |= read_header(path)
        except (BadSafetensors, OSError) as error:
            raise BadWeightFiles(f"{directory}: {error}; copy the file again") from error
    return found


def loaded_files(directory: Path) -> tuple[Path, ...]:
    """The files that `read_weights` reads; all .safetensors files where neither file nor index says which these are."""
    try:
        return _weight_files(directory)
    except BadWeightFiles:
        return tuple(sorted(directory.glob("*.safetensors")))


def names_in_index(path: Path) -> frozenset[str]:
    """The tensors that an index names. Raises BadWeightFiles."""
    return frozenset(_read_index(path))


def _weight_files(directory: Path) -> tuple[Path, ...]:
    """Raises BadWeightFiles.

    Source: transformers' and vLLM's loaders. Without an index transformers finds nothing in several files.
    """
    if (directory / SINGLE).is_file():
        return (directory / SINGLE,)
    index = directory / INDEX
    if not index.is_file():
        present = sorted(path.name for path in directory.iterdir() if path.suffix in {".safetensors", ".bin"})
        shown = ", ".join(present[:3]) + (" ..." if len(present) > 3 else "")
        found = f"it has {shown}" if present else "it has no weights"
        raise BadWeightFiles(
            f"{directory} has neither {SINGLE} nor {INDEX} ({found}): save the model again with save_pretrained"
        )
    files = [directory / Path(name).name for name in sorted(set(_read_index(index).values()))]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise BadWeightFiles(f"{index} names files that do not exist: {shown}; copy the whole model again")
    return tuple(files)


def _read_index(path: Path) -> dict[str, str]:
    """File by tensor. Raises BadWeightFiles."""
    try:
        named = dict(json.loads(path.read_bytes())["weight_map"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadWeightFiles(f"{path} is not an index of safetensors files: {error!r:.200}") from error
    if not all(isinstance(file, str) and file for file in named.values()):
        raise BadWeightFiles(f"{path} is not an index of safetensors files: a value of weight_map is not a file name")
    return named


def weights_size(directory: Path) -> str:
    """Returns the size of a model's safetensors files as text: 61.1 GB."""
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
