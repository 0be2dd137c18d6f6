"""Adapters' files on the engine's disk."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluate.models import write_adapter
from tests.evaluate.world import World
from tests.tools.processes import wait_until
from workloads.api.tasks import AdapterSource
from workloads.engines.base import nothing
from workloads.evaluate.adapter_cache import AdapterCache
from workloads.models.adapters import CONFIG, WEIGHTS
from workloads.models.shapes import ModelShapes, read_shapes
from workloads.program import Terminated
from workloads.storage.markers import Corrupt, read_marker


@pytest.fixture
def world(dense: Path, tmp_path: Path) -> World:
    return World(tmp_path, dense)


@pytest.fixture
def shapes(dense: Path) -> ModelShapes:
    return read_shapes(dense)


@pytest.fixture
def fetched(world: World) -> Iterator[AdapterCache]:
    with AdapterCache(world.store, world.folder / "fetched") as found:
        yield found


def weights_key(world: World, source: AdapterSource) -> str:
    marker = read_marker(world.store, source.unit, source.marker)
    assert marker is not None
    return next(file.key for file in marker.files if file.name == WEIGHTS)


def test_weights_come_when_they_are_waited_for_and_go_with_the_last_release(
    world: World, fetched: AdapterCache, shapes: ModelShapes, adapters: list[Path]
) -> None:
    source = world.checkpoint(adapters[0], 1)
    adapter, _ = fetched.promise(source, shapes)
    again, _ = fetched.promise(source, shapes)
    assert adapter == again
    assert [path.name for path in adapter.directory.iterdir()] == [CONFIG]
    assert fetched.wait(adapter, shapes, nothing) == adapter
    fetched.release(adapter)
    assert (adapter.directory / WEIGHTS).read_bytes() == (adapters[0] / WEIGHTS).read_bytes()
    fetched.release(adapter)
    assert not adapter.directory.exists()
    once_more, _ = fetched.promise(source, shapes)
    assert fetched.wait(once_more, shapes, nothing) == adapter


def test_an_early_fetch_that_failed_is_repeated_in_its_turn(
    world: World, fetched: AdapterCache, shapes: ModelShapes, adapters: list[Path]
) -> None:
    source = world.checkpoint(adapters[0], 1)
    whole = world.store.get(weights_key(world, source))
    world.store.put(weights_key(world, source), b"damaged")
    adapter, _ = fetched.promise(source, shapes)
    fetched.begin(adapter)
    deadline = time.monotonic() + 30
    while not fetched._arriving[adapter.name].done() and time.monotonic() < deadline:
        time.sleep(0.01)
    world.store.put(weights_key(world, source), whole)
    assert fetched.wait(adapter, shapes, nothing) == adapter


def test_an_adapter_that_is_damaged_at_its_turn_is_refused_each_time(
    world: World, fetched: AdapterCache, shapes: ModelShapes, adapters: list[Path]
) -> None:
    source = world.checkpoint(adapters[0], 1)
    world.store.put(weights_key(world, source), b"damaged")
    adapter, _ = fetched.promise(source, shapes)
    for _ in range(2):
        with pytest.raises(Corrupt, match=WEIGHTS):
            fetched.wait(adapter, shapes, nothing)


def test_a_program_does_not_wait_for_a_fetch_after_sigterm(
    world: World,
    fetched: AdapterCache,
    shapes: ModelShapes,
    adapters: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter, _ = fetched.promise(world.checkpoint(adapters[0], 1), shapes)
    monkeypatch.setattr("workloads.evaluate.adapter_cache.fetch", lambda *_: time.sleep(5))
    monkeypatch.setattr("workloads.evaluate.adapter_cache.TICK_SECONDS", 0.05)

    def tick() -> None:
        raise Terminated

    began = time.monotonic()
    with pytest.raises(Terminated):
        fetched.wait(adapter, shapes, tick)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("only", "modules", "target"),
    [
        ("self_attn", r".*self_attn\.(q_proj|k_proj|v_proj|o_proj)", "attention"),
        ("self_attn", ["q_proj", "k_proj", "v_proj", "o_proj"], "attention"),
        ("", "all-linear", "all"),
        ("", ["q_proj", "gate_proj"], "all"),
    ],
)
def test_the_layers_that_an_adapter_changes_are_known_before_its_turn(
    world: World,
    fetched: AdapterCache,
    shapes: ModelShapes,
    dense: Path,
    tmp_path: Path,
    only: str,
    modules: object,
    target: str,
) -> None:
    directory = write_adapter(tmp_path / "imported", dense, seed=3, only=only)
    config = json.loads((directory / CONFIG).read_text()) | {"target_modules": modules}
    (directory / CONFIG).write_text(json.dumps(config))
    adapter, _ = fetched.promise(world.checkpoint(directory, 1), shapes)
    assert adapter.target == target


def test_an_early_fetch_that_failed_is_repeated_before_the_adapter_is_reported_as_fetched(
    world: World, fetched: AdapterCache, shapes: ModelShapes, adapters: list[Path]
) -> None:
    source = world.checkpoint(adapters[0], 1)
    adapter, _ = fetched.promise(source, shapes)
    whole = world.store.get(weights_key(world, source))
    world.store.put(weights_key(world, source), b"damaged")
    fetched.begin(adapter)
    wait_until(fetched._arriving[adapter.name].done, "the failure")
    world.store.put(weights_key(world, source), whole)
    assert not fetched.arrived(adapter)
    wait_until(lambda: fetched.arrived(adapter), "the second try")
    assert fetched.wait(adapter, shapes, nothing) == adapter
