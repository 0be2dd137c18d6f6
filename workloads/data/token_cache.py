"""Token ids of a data set, made once for a tokenizer and template, in a file that all ranks of a machine map to
memory.
"""

import contextlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.api.model import canonical_json, sha256_of
from workloads.api.units import MixturePart, Template
from workloads.data.encoded import EncodedRow
from workloads.data.end_token import EndToken
from workloads.data.rows import DataPart, Places, iter_rows
from workloads.data.tokens import FACTS, RowsWriter, WholeRows, encode_rows, whole_rows
from workloads.storage.content_digest import hash_file, locked
from workloads.text.tokenizer import TextTokenizer

logger = logging.getLogger("potstill")
ENCODING = "tokens-1"
"""Raise it when the same rows could give other tokens or facts, so that older files are not read."""
KEPT_SETS = 8
"""The largest number of tokenised data sets in the cache.

The one that was not used for the longest time is deleted first.
"""
SHOWN_COLUMNS = 20


def cache_key(parts: Sequence[MixturePart], template: Template, tokenizer: TextTokenizer, end: EndToken) -> str:
    """Returns 64 hex digits of all inputs of the tokens."""
    chat = [tokenizer.chat.templates, tokenizer.chat.special_tokens] if template.name in ("base", "file") else []
    return sha256_of(
        canonical_json(
            {
                "encoding": [ENCODING, list(FACTS), list(EncodedRow.__dataclass_fields__), version("tokenizers")],
                "parts": [part.model_dump(mode="json", exclude={"weight"}) for part in parts],
                "template": template.model_dump(mode="json"),
                "tokenizer": [tokenizer.sha256, tokenizer.opening, tokenizer.end_token_ids, chat],
                "end": [end.token_id, end.text],
            }
        )
    )


def tokenised(
    paths: Sequence[Path],
    parts: Sequence[MixturePart],
    template: Template,
    tokenizer: TextTokenizer,
    end: EndToken,
    cache: Path | None,
) -> tuple[WholeRows, Places]:
    """Returns all rows as tokens, from `cache` if possible; otherwise tokenises them and adds them to the cache.

    Other processes of this machine wait meanwhile. If `cache` is None or cannot be written, the tokens are in memory.
    `paths` must have the contents that `parts` state. Raises BadData and BadTemplate.
    """
    readers = [DataPart(path, part.columns, part.format, part.loss) for path, part in zip(paths, parts, strict=True)]
    if cache is not None:
        folder = cache / "tokens" / cache_key(parts, template, tokenizer, end)[:32]
        with contextlib.suppress(OSError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_suffix(".lock")):
                if (found := _load(folder)) is not None:
                    return found
                if _write(folder, readers, tokenizer, template, end) and (found := _load(folder)) is not None:
                    _forget_others(folder)
                    return found
        logger.warning("the cache %s cannot be written: rows are tokenised in memory, by each process", cache)
    places, file = Places.none(), BytesIO()
    writer = encode_rows(iter_rows(readers, places), tokenizer, template, end, places, file)
    tokens = np.frombuffer(file.getbuffer(), dtype=np.int32)
    return whole_rows(writer.arrays(), tokens, writer.largest), places


def _write(
    folder: Path, readers: Sequence[DataPart], tokenizer: TextTokenizer, template: Template, end: EndToken
) -> bool:
    arriving = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.arriving")
    try:
        arriving.mkdir()
        places = Places.none()
        with (arriving / "tokens").open("wb") as file:
            writer = encode_rows(iter_rows(readers, places), tokenizer, template, end, places, file)
        _describe(arriving, writer, places)
        shutil.rmtree(folder, ignore_errors=True)
        arriving.rename(folder)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    return True


def _describe(folder: Path, writer: RowsWriter, places: Places) -> None:
    np.savez(folder / "rows.npz", allow_pickle=False, **writer.arrays())
    about = {
        "largest": writer.largest,
        "files": places.files,
        "unread": places.unread[: SHOWN_COLUMNS + 1],
        "tokens": hash_file(folder / "tokens"),
        "rows": hash_file(folder / "rows.npz"),
    }
    (folder / "about.json").write_text(json.dumps(about))


def _load(folder: Path) -> tuple[WholeRows, Places] | None:
    """Returns None if the file does not exist or is damaged."""
    try:
        about: dict[str, Any] = json.loads((folder / "about.json").read_text())
        if about["tokens"] != hash_file(folder / "tokens") or about["rows"] != hash_file(folder / "rows.npz"):
            return None
        with np.load(folder / "rows.npz", allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
        tokens: NDArray[np.int32] = (
            np.memmap(folder / "tokens", dtype=np.int32, mode="r")
            if arrays["offsets"][-1]
            else np.zeros(0, dtype=np.int32)
        )
        os.utime(folder)
        return whole_rows(arrays, tokens, about["largest"]), Places(
            [tuple(file) for file in about["files"]], about["unread"]
        )
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _forget_others(folder: Path) -> None:
    """Deletes other sets. Processes that have mapped them can still read them."""
    others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_SETS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
