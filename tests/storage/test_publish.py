"""The import program: which files of another trainer are committed, when, and the messages about unusable ones."""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.tools.processes import wait_until
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, Failure, TrainRecord
from workloads.api.tasks import ImportTask, ModelSource, Owner
from workloads.api.units import ExternalInputs, unit_of
from workloads.import_checkpoints import model_content_of
from workloads.models.finite_tensors import not_finite
from workloads.storage.base import Store, open_store
from workloads.storage.content_digest import directory_content
from workloads.storage.markers import fetch, list_markers, read_marker
from workloads.storage.source import open_source
from workloads.words import count_of

ROOT = Path(__file__).parents[2]
INPUTS = ExternalInputs(base_content="c", source="elsewhere")
UNIT = unit_of(INPUTS)
HIDDEN, RANK, LAYERS = 8, 2, 2
CONFIG = {
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "hidden_size": HIDDEN,
    "intermediate_size": 16,
    "vocab_size": 32,
    "max_position_embeddings": 64,
}
ONE = struct.pack("<f", 1.0)
NAN = struct.pack("<f", float("nan"))


def safetensors(tensors: Mapping[str, tuple[str, list[int], bytes]]) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def adapter(value: bytes = ONE, rank: int = RANK, last: bytes | None = None) -> dict[str, bytes]:
    """The files of a LoRA on q_proj of every layer; `last` is the last number."""
    tensors = {}
    for layer in range(LAYERS):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = ("F32", [rank, HIDDEN], value * rank * HIDDEN)
        end = last if last and layer == LAYERS - 1 else value
        tensors[f"{name}.lora_B.weight"] = ("F32", [HIDDEN, rank], value * (HIDDEN * rank - 1) + end)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": safetensors(tensors)}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


class Importing:
    """A store, a watched place, and the program that runs between them."""

    def __init__(self, store: Store, watched: Store, watched_location: str, base: Path) -> None:
        self.store, self.watched, self.location, self.base = store, watched, watched_location, base

    def hand_in(self, folder: str, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.watched.put(f"{folder}/{name}" if folder else name, data)

    def start(self, number: int = 1, **task: Any) -> subprocess.Popen[str]:
        order = ImportTask(
            number=number,
            owner=Owner(experiment="e", uid8="00000000"),
            created=datetime(2026, 2, 16, tzinfo=UTC),
            base=ModelSource(location=str(self.base), content="c"),
            location=self.location,
            **{"unit": UNIT, "inputs": INPUTS, **task},
        )
        self.store.put_new(order.key, order.to_json())
        code = (
            "import sys; from functools import partial; from workloads import import_checkpoints;"
            "from workloads.program import run_program; from workloads.api.tasks import ImportTask;"
            "sys.exit(run_program(ImportTask, partial(import_checkpoints.run, poll_seconds=0.05)))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, order.key],
            env={**os.environ, "POTSTILL_STORE": self.store.url},
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, **task: Any) -> int:
        process = self.start(**task)
        process.communicate(timeout=60)
        return process.returncode

    def failure(self) -> Failure:
        return Failure.model_validate_json(self.store.get(store_keys.failure_key(UNIT, 1)))

    def names(self) -> list[str]:
        return [marker.name for marker in list_markers(self.store, UNIT)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write(tmp_path / "base", {"config.json": json.dumps(CONFIG).encode()})
    return tmp_path / "base"


@pytest.fixture
def importing(store: Store, base: Path) -> Importing:
    watched = open_store(store.url + "-watched")
    return Importing(store, watched, watched.url, base)


EXPECT: dict[str, Any] = {"expect": (100, 200), "ready": "DONE"}


@pytest.mark.slow
def test_checkpoints_are_committed_as_they_become_ready(importing: Importing, tmp_path: Path) -> None:
    process = importing.start(**EXPECT)
    importing.hand_in("checkpoint-100", adapter())
    importing.hand_in("checkpoint-300", {**adapter(), "DONE": b""})
    importing.hand_in("checkpoint-200", {**adapter(), "trainer_state.json": b'{"global_step": 4}', "DONE": b""})
    wait_until(lambda: importing.names() == ["checkpoint-000000200"], "the one that is ready")
    assert process.poll() is None
    importing.hand_in("checkpoint-100", {"DONE": b""})
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert importing.names() == ["checkpoint-000000100", "checkpoint-000000200", "done"]
    markers = {marker.name: marker for marker in list_markers(importing.store, UNIT)}
    last = markers["checkpoint-000000200"]
    assert isinstance(last.record, CheckpointRecord)
    assert (last.record.samples, last.record.step, last.record.weights) == (200, 4, "adapter")
    paths = fetch(importing.store, last, ["adapter_config.json", "adapter_model.safetensors"], tmp_path / "into")
    assert {name: path.read_bytes() for name, path in paths.items()} == adapter()
    assert isinstance(markers["done"].record, TrainRecord)
    assert markers["done"].record.samples == 200


@pytest.mark.slow
def test_a_second_attempt_continues_where_the_first_was_killed(importing: Importing) -> None:
    importing.hand_in("checkpoint-100", {**adapter(), "DONE": b""})
    process = importing.start(**EXPECT)
    wait_until(lambda: importing.names() == ["checkpoint-000000100"], "the first checkpoint")
    process.kill()
    process.communicate()
    importing.hand_in("checkpoint-200", {**adapter(), "DONE": b""})
    assert importing.run(number=2, **EXPECT) == 0
    assert [(marker.name, marker.attempt) for marker in list_markers(importing.store, UNIT)] == [
        ("checkpoint-000000100", 1),
        ("checkpoint-000000200", 2),
        ("done", 2),
    ]


@pytest.mark.slow
def test_a_candidate_is_one_checkpoint_at_no_samples(importing: Importing) -> None:
    importing.hand_in("", adapter())
    assert importing.run() == 0
    assert importing.names() == ["checkpoint-000000000", "done"]


@pytest.mark.slow
def test_a_candidate_that_changed_since_it_was_accepted_is_refused(importing: Importing) -> None:
    importing.hand_in("", adapter())
    accepted = model_content_of(importing.location)
    inputs = ExternalInputs(base_content="c", source=accepted)
    importing.hand_in("", adapter(value=b"\0\0\0\0"))
    assert importing.run(number=1, inputs=inputs, unit=unit_of(inputs)) == 11
    left = Failure.model_validate_json(importing.store.get(store_keys.failure_key(unit_of(inputs), 1)))
    assert left.reason == "InputChanged"
    importing.hand_in("", adapter())
    assert importing.run(number=2, inputs=inputs, unit=unit_of(inputs)) == 0
    assert [m.name for m in list_markers(importing.store, unit_of(inputs))] == ["checkpoint-000000000", "done"]


@pytest.mark.slow
def test_a_missing_candidate_is_reported(importing: Importing) -> None:
    importing.watched.put("other/file", b"")
    assert importing.run() == 11
    assert importing.failure().reason == "NothingThere"
    assert importing.location in importing.failure().message


def without(name: str) -> dict[str, bytes]:
    return {file: data for file, data in adapter().items() if file != name}


def with_config(**changes: object) -> dict[str, bytes]:
    files = adapter()
    files["adapter_config.json"] = json.dumps(json.loads(files["adapter_config.json"]) | changes).encode()
    return files


def cut_short() -> dict[str, bytes]:
    files = adapter()
    return files | {"adapter_model.safetensors": files["adapter_model.safetensors"][:-1]}


BAD: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "no configuration": (lambda: without("adapter_config.json"), r"adapter_config\.json does not exist"),
    "no weights": (lambda: without("adapter_model.safetensors"), r"adapter_model\.safetensors does not exist"),
    "cut short": (cut_short, "adapter_model.safetensors has"),
    "a pickle": (lambda: adapter() | {"adapter_model.safetensors": b"\x80\x04pickle"}, "adapter_model.safetensors"),
    "a NaN at the end": (
        lambda: adapter(last=NAN),
        r"1 tensor with NaN or Inf, first: .*layers\.1\.self_attn\.q_proj\.lora_B",
    ),
    "another rank": (lambda: adapter(rank=3), "has shape"),
    "no JSON": (lambda: adapter() | {"adapter_config.json": b"{"}, "not JSON"),
    "DoRA": (lambda: with_config(use_dora=True), "use_dora"),
    "whole modules": (lambda: with_config(modules_to_save=["lm_head"]), "modules_to_save"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", BAD)
def test_an_adapter_of_another_base_is_refused_by_name_and_its_sibling_is_committed(
    tmp_path: Path, base: Path, what: str
) -> None:
    make, words = BAD[what]
    store, watched = open_store((tmp_path / "store").as_uri()), open_store((tmp_path / "watched").as_uri())
    importing = Importing(store, watched, str(tmp_path / "watched"), base)
    importing.hand_in("checkpoint-100", {**make(), "DONE": b""})
    importing.hand_in("checkpoint-200", {**adapter(), "DONE": b""})
    assert importing.run(**EXPECT) == 11
    assert importing.names() == ["checkpoint-000000200"]
    failure = importing.failure()
    assert failure.reason == "BadCheckpoint"
    assert failure.message.startswith("checkpoint at 100 samples: ")
    assert re.search(words, failure.message), failure.message


def with_header(change: Callable[[dict[str, Any]], Any]) -> dict[str, bytes]:
    """Changes the weights' header in place, or replaces it by the result of `change`."""
    files = adapter()
    whole = files["adapter_model.safetensors"]
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    text = json.dumps(change(header) or header).encode()
    return files | {"adapter_model.safetensors": struct.pack("<Q", len(text)) + text + whole[8 + size :]}


def config_of(text: bytes) -> dict[str, bytes]:
    return adapter() | {"adapter_config.json": text}


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
HOSTILE: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "alpha of 400 digits": (lambda: with_config(lora_alpha=10**400), "lora_alpha"),
    "alpha of 5,000 digits": (lambda: config_of(b'{"lora_alpha": %b}' % (b"1" * 5_000)), "adapter_config.json"),
    "infinite alpha": (lambda: config_of(b'{"r": 2, "lora_alpha": 1e999}'), "lora_alpha"),
    "true for a rank": (lambda: with_config(r=True), "r (true)"),
    "deep JSON": (lambda: config_of(b"[" * 100_000), "nested too deeply"),
    "deep JSON in a known key": (
        lambda: config_of(b'{"bias": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}"), "bias is"
    ),
    "a huge configuration": (lambda: config_of(b" " * (1 << 21) + b"{}"), "not an adapter configuration"),
    "a deep header": (
        lambda: adapter() | {"adapter_model.safetensors": struct.pack("<Q", 100_000) + b"[" * 100_000}, "nested too deeply"
    ),
    "no offsets": (lambda: with_header(lambda h: h[FIRST].update(data_offsets=[])), "data_offsets"),
    "offsets in text": (lambda: with_header(lambda h: h[FIRST].update(data_offsets=["0", "64"])), "data_offsets"),
    "a list for a dtype": (lambda: with_header(lambda h: h[FIRST].update(dtype=["F32"])), "not a dtype"),
    "a surrogate for a name": (lambda: with_header(lambda h: h.update({"\ud800": h.pop(FIRST)})), "UTF-8"),
    "an escape sequence for a name": (lambda: with_header(lambda h: h.update({"\x1b]0;me\x07": h.pop(FIRST)})), "not a LoRA factor"),
    "offsets that hold nothing": (lambda: with_header(lambda h: h[FIRST].update(data_offsets=[0, 0])), "not its shape"),
    "offsets that overlap": (lambda: with_header(lambda h: h[FIRST].update(data_offsets=[64, 128])), "overlaps|gap"),
    "PiSSA": (lambda: with_config(init_lora_weights="pissa_niter_16"), "path_initial_model_for_weight_conversion"),
    "aLoRA": (lambda: with_config(alora_invocation_tokens=[5, 8]), "alora_invocation_tokens"),
    "AdaLoRA": (lambda: with_config(peft_type="ADALORA"), "peft_type is \"ADALORA\""),
    "a key of next year": (lambda: with_config(use_next_lora=True), "use_next_lora is true"),
}  # fmt: skip


@pytest.mark.slow
def test_hostile_adapters_are_refused_one_by_one_and_the_honest_one_is_committed(tmp_path: Path, base: Path) -> None:
    store, watched = open_store((tmp_path / "store").as_uri()), open_store((tmp_path / "watched").as_uri())
    importing = Importing(store, watched, str(tmp_path / "watched"), base)
    for number, (make, _) in enumerate(HOSTILE.values(), 1):
        importing.hand_in(f"checkpoint-{number}", make())
    importing.hand_in("checkpoint-900", adapter())
    assert importing.run(expect=(*range(1, len(HOSTILE) + 1), 900), ready="adapter_model.safetensors") == 11
    assert importing.names() == ["checkpoint-000000900"]
    failure = importing.failure()
    assert failure.reason == "BadCheckpoint"
    said = failure.message.split("\n")
    assert len(said) == len(HOSTILE)
    for number, (line, (_, words)) in enumerate(zip(said, HOSTILE.values(), strict=True), 1):
        assert line.startswith(f"checkpoint at {count_of(number, 'sample')}: "), line
        assert words in line or re.search(words, line), line


@pytest.mark.slow
def test_whole_weights_are_committed_by_place_and_content(importing: Importing, tmp_path: Path) -> None:
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors({"w": ("F32", [1], ONE)})}
    write(tmp_path / "model", files)
    importing.hand_in("step-100", files)
    assert importing.run(weights="model", expect=(100,)) == 0
    marker = read_marker(importing.store, UNIT, "checkpoint-000000100")
    assert marker is not None
    assert isinstance(marker.record, CheckpointRecord)
    assert marker.files == ()
    assert marker.record.location == f"{importing.location}/step-100"
    assert marker.record.model_content == directory_content(tmp_path / "model") == f"sha256:{marker.content}"


@pytest.mark.slow
def test_whole_weights_that_are_cut_short_are_refused(importing: Importing) -> None:
    importing.hand_in("step-100", {"model.safetensors": safetensors({"w": ("F32", [1], ONE)})[:-1]})
    assert importing.run(weights="model", expect=(100,)) == 11
    assert "model.safetensors" in importing.failure().message


@pytest.mark.slow
def test_a_watched_directory_that_is_not_there_yet_is_waited_for(tmp_path: Path, base: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    process = Importing(store, store, str(tmp_path / "later"), base).start(expect=(100,), ready="DONE")
    wait_until(lambda: store.head(store_keys.progress_key(UNIT, 1)), "its first look")
    assert not (tmp_path / "later").exists()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 15


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("F32", struct.pack("<f", 3e38), [struct.pack("<f", float("inf")), NAN]),
        ("F64", struct.pack("<d", 1e308), [struct.pack("<d", float("-inf"))]),
        ("F16", struct.pack("<e", 65504.0), [struct.pack("<e", float("inf")), struct.pack("<e", float("nan"))]),
        ("BF16", b"\x7f\x7f", [b"\x80\x7f", b"\x80\xff", b"\xc0\x7f"]),
        ("I32", b"\xff\xff\xff\x7f", []),
    ],
)
def test_numbers_that_are_none_are_found_in_every_format(
    tmp_path: Path, dtype: str, good: bytes, bad: list[bytes]
) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(safetensors({"good": (dtype, [3], good * 3)}))
    assert not_finite(path) == []
    for value in bad:
        path.write_bytes(safetensors({"good": (dtype, [1], good), "bad": (dtype, [3], good * 2 + value)}))
        assert not_finite(path) == ["bad"]


def test_a_source_is_only_read(tmp_path: Path) -> None:
    write(tmp_path / "run" / "checkpoint 1", {"a file": b"x"})
    source = open_source(str(tmp_path / "run"))
    assert [info.key for info in source.list("")] == ["checkpoint 1/a file"]
    assert source.get("checkpoint 1/a file") == b"x"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint 1"]
