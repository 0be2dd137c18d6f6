"""A real vLLM on a CPU that merges one adapter at a time into its weights: a dense base, a mixture of experts, and one
whose weights are split over two processes.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluate.models import VLLM_FLAGS, edit_adapter, edit_config, write_adapter
from tests.evaluate.test_canary import canaries_of
from workloads.api.units import EngineIdentity
from workloads.engines.base import Adapter, BadAdapter, Demands, Engine
from workloads.engines.transformers.engine import TransformersEngine
from workloads.evaluate.canary import check_canaries
from workloads.models.adapters import check_adapter
from workloads.models.shapes import read_shapes
from workloads.text.tokenizer import load_tokenizer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")
from tests.evaluate.test_vllm_engine import (  # noqa: E402  (it skips itself without vLLM, too)
    GREEDY,
    PROMPTS,
    ask,
    equal_up_to_near_ties,
)


@pytest.fixture(scope="module", params=[("dense", 1), ("moe", 1), ("moe", 2)], ids=["dense", "moe", "moe-split"])
def setting(request: pytest.FixtureRequest) -> tuple[Path, int]:
    """A base, and the number of processes over which its weights are split."""
    kind, processes = request.param
    return request.getfixturevalue(kind), processes


@pytest.fixture(scope="module")
def base(setting: tuple[Path, int]) -> Path:
    return setting[0]


@pytest.fixture(scope="module")
def engine(setting: tuple[Path, int]) -> Iterator[Engine]:
    base, processes = setting
    flags = VLLM_FLAGS | {"merge_adapters": True, "tensor_parallel_size": processes}
    with pytest.MonkeyPatch.context() as patch:
        if processes > 1:
            cores = sorted(os.sched_getaffinity(0))
            if len(cores) < processes:
                pytest.skip(f"vLLM binds each of {processes} processes to its own core; this machine has one")
            patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(map(str, cores[:processes])))
        yield from started(base, flags)


def started(base: Path, flags: dict[str, str | int | float | bool]) -> Iterator[Engine]:
    from workloads.engines.vllm.engine import VllmEngine

    asked = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=flags)
    made = VllmEngine.start(asked, base, read_shapes(base), load_tokenizer(base), Demands(80, 4, "all"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def variants(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Adapter | None]:
    """The base, adapters of everything, of the attention and of the feed-forward layers, and the base's name again."""
    root, shapes = tmp_path_factory.mktemp("adapters"), read_shapes(base)
    made = [
        write_adapter(root / str(seed), base, seed=seed, only=only)
        for seed, only in enumerate(("", "self_attn", "mlp"))
    ]
    return [None, *(check_adapter(f"adapter-{path.name}", path, shapes) for path in made)]


def test_greedy_tokens_are_those_of_transformers_up_to_a_near_tie_and_the_base_is_whole_again(
    engine: Engine, base: Path, variants: list[Adapter | None]
) -> None:
    small = TransformersEngine(base, load_tokenizer(base), "float32", {})
    before = ask(engine, [None], GREEDY, PROMPTS)
    ours, theirs = (ask(one, variants, GREEDY, PROMPTS) for one in (engine, small))
    equal = equal_up_to_near_ties(small, variants, ours, theirs)
    assert equal >= len(variants) * len(PROMPTS) * 3 // 4
    assert len({tuple(ours[f"{a.name if a else 'base'}/{p}"].token_ids for p in PROMPTS) for a in variants}) == len(
        variants
    )
    after = ask(engine, [None], GREEDY, PROMPTS)
    assert {key: found.token_ids for key, found in after.items()} == {
        key: found.token_ids for key, found in before.items()
    }


def test_nothing_that_was_computed_by_other_weights_is_kept(
    engine: Engine, base: Path, variants: list[Adapter | None]
) -> None:
    """A prompt longer than a block of the prefix cache, for one adapter, for another, and for the base."""
    small = TransformersEngine(base, load_tokenizer(base), "float32", {})
    prompt = "0123456789" * 20
    for adapter in (*variants[1:], None):
        key = f"{adapter.name if adapter else 'base'}/{prompt}"
        ours, theirs = (ask(one, [adapter], GREEDY, [prompt])[key].token_ids[:8] for one in (engine, small))
        assert ours == theirs


def test_log_probabilities_are_those_of_transformers(
    engine: Engine, base: Path, variants: list[Adapter | None]
) -> None:
    small = TransformersEngine(base, load_tokenizer(base), "float32", {})
    sequences = [list(prompt.encode()) * 3 for prompt in PROMPTS]
    for adapter in (*variants, None):
        for ours, theirs in zip(engine.log_probs(sequences, adapter), small.log_probs(sequences, adapter), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-3)


def test_the_canary_passes_for_the_trained_adapter_and_fails_for_a_spoiled_one(
    engine: Engine, base: Path, tmp_path: Path
) -> None:
    directory, shapes = write_adapter(tmp_path / "trained", base, seed=8, size=0.05), read_shapes(base)
    small = TransformersEngine(base, load_tokenizer(base), "float32", {})
    small.load(check_adapter("trained", directory, shapes))
    canaries = canaries_of(base, small._model)
    sequences = [canary.token_ids for canary in canaries]

    def passes(name: str) -> bool:
        scores = engine.log_probs(sequences, check_adapter(name, directory, shapes))
        return check_canaries(canaries, scores, "float32").passed

    assert passes("whole")
    assert not check_canaries(canaries, engine.log_probs(sequences, None), "float32").passed
    edit_config(directory, lora_alpha=10.0)
    assert not passes("wrong-scale")
    edit_config(directory, lora_alpha=8.0)
    edit_adapter(directory, lambda t: [t[key].zero_() for key in t if ".mlp." in key])
    assert not passes("missing-feed-forward")


def test_a_poison_adapter_is_refused_and_the_engine_lives(
    engine: Engine, base: Path, variants: list[Adapter | None], tmp_path: Path
) -> None:
    directory = write_adapter(tmp_path / "poison", base, seed=9)
    before = ask(engine, variants[1:2], GREEDY, PROMPTS[:1])
    edit_adapter(directory, lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    with pytest.raises(BadAdapter, match="NaN"):
        engine.load(Adapter("poison", directory, 4))
    assert {k: f.token_ids for k, f in ask(engine, variants[1:2], GREEDY, PROMPTS[:1]).items()} == {
        key: found.token_ids for key, found in before.items()
    }


def test_adapters_of_any_rank_are_accepted_and_the_flag_is_in_the_record(engine: Engine) -> None:
    assert engine.accepts(Demands(80, 4096, "all"))
    assert engine.flags["merge_adapters"] is True
    assert engine.one_adapter_at_a_time
