"""A real vLLM on a CPU, compared with the transformers engine. `make test-vllm` runs it in an environment with vLLM."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.evaluate.models import VLLM_FLAGS, edit_adapter, edit_config, with_adapter_by_hooks, write_adapter
from tests.evaluate.test_canary import canaries_of
from workloads.api.units import EngineIdentity
from workloads.engines.base import Adapter, BadAdapter, Decoding, Demands, Engine, Finished, Request, request_seed
from workloads.engines.transformers.engine import TransformersEngine
from workloads.engines.vllm.warm_up import NUMBER, warm_up
from workloads.evaluate.canary import TOLERANCE, CanaryResult, check_canaries, coarsest_dtype
from workloads.models.adapters import WEIGHTS, check_adapter
from workloads.models.shapes import read_shapes
from workloads.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from workloads.engines.vllm.engine import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
vllm = pytest.importorskip("vllm")

GREEDY = Decoding(temperature=0.0, top_p=1.0, limit_tokens=40, stop_token_ids=(256, 258))
PROMPTS = ["2 + 2 =", "a", "The longest of these prompts, by far.", "x" * 17]
NEAR_TIE_NATS = 1e-3


@pytest.fixture(scope="module")
def engine(dense: Path) -> Iterator["VllmEngine"]:
    from workloads.engines.vllm.engine import VllmEngine

    asked = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=VLLM_FLAGS)
    started = VllmEngine.start(asked, dense, read_shapes(dense), load_tokenizer(dense), Demands(80, 4, "all"))
    assert isinstance(started, VllmEngine)
    yield started
    started.close()


@pytest.fixture(scope="module")
def variants(dense: Path, adapters: list[Path]) -> list[Adapter | None]:
    """The base and three adapters: more than the engine's two slots."""
    shapes = read_shapes(dense)
    return [None, *(check_adapter(f"adapter-{path.name}", path, shapes) for path in adapters)]


def ask(
    engine: Engine, variants: Sequence[Adapter | None], decoding: Decoding, prompts: Sequence[str]
) -> dict[str, Finished]:
    for adapter in variants:
        name = adapter.name if adapter else "base"
        for prompt in prompts:
            ids = tuple(prompt.encode())
            engine.submit(Request(f"{name}/{prompt}", name, ids, adapter, decoding, request_seed(1, prompt, 0)))
    found: dict[str, Finished] = {}
    while engine.pending:
        found |= {finished.id: finished for finished in engine.step()}
    return found


def first_difference(ours: Finished, theirs: Finished) -> int | None:
    pairs = zip(ours.token_ids, theirs.token_ids, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), None)


def equal_up_to_near_ties(
    small: TransformersEngine,
    variants: Sequence[Adapter | None],
    ours: dict[str, Finished],
    theirs: dict[str, Finished],
) -> int:
    """Returns how many outputs are equal.

    The others first differ at a token where `small` gives both tokens about the same probability.
    """
    equal = 0
    for adapter in variants:
        for prompt in PROMPTS:
            key = f"{adapter.name if adapter else 'base'}/{prompt}"
            place = first_difference(ours[key], theirs[key])
            if place is None:
                assert ours[key].token_ids == theirs[key].token_ids
                assert ours[key].finish_reason == theirs[key].finish_reason
                equal += 1
                continue
            start = [*prompt.encode(), *theirs[key].token_ids[:place]]
            choices = [finished[key].token_ids[place] for finished in (ours, theirs)]
            scores = [small.log_probs([[*start, choice]], adapter)[0][-1] for choice in choices]
            assert abs(scores[0] - scores[1]) < NEAR_TIE_NATS, f"{key}: token {place} differs without a near-tie"
    return equal


def test_greedy_tokens_of_base_and_adapters_in_one_batch_are_those_of_transformers_up_to_a_near_tie(
    engine: Engine, dense: Path, variants: list[Adapter | None]
) -> None:
    small = TransformersEngine(dense, load_tokenizer(dense), "float32", {})
    ours, theirs = (ask(one, variants, GREEDY, PROMPTS) for one in (engine, small))
    equal = equal_up_to_near_ties(small, variants, ours, theirs)
    assert equal >= len(variants) * len(PROMPTS) * 3 // 4
    texts = {tuple(ours[f"{a.name if a else 'base'}/{p}"].token_ids for p in PROMPTS) for a in variants}
    assert len(texts) == len(variants), "two of the models gave the same outputs"


def test_an_adapter_among_others_answers_as_it_does_alone(engine: Engine, variants: list[Adapter | None]) -> None:
    among = ask(engine, variants, GREEDY, PROMPTS)
    alone = ask(engine, variants[2:3], GREEDY, PROMPTS)
    assert {key: found.token_ids for key, found in alone.items()} == {key: among[key].token_ids for key in alone}


def test_sampled_outputs_follow_their_seed(engine: Engine, variants: list[Adapter | None]) -> None:
    sampled = Decoding(temperature=1.0, top_p=0.9, limit_tokens=20, stop_token_ids=(256, 258))
    once, again = (ask(engine, variants[:1], sampled, PROMPTS) for _ in range(2))
    assert {key: f.token_ids for key, f in once.items()} == {key: f.token_ids for key, f in again.items()}
    assert {f.token_ids for f in once.values()} != {
        f.token_ids for f in ask(engine, variants[:1], GREEDY, PROMPTS).values()
    }


def test_the_stop_token_ends_an_output_and_is_its_last_token(engine: Engine) -> None:
    free = ask(engine, [None], GREEDY, PROMPTS[:1])[f"base/{PROMPTS[0]}"]
    stop = free.token_ids[7]
    first = free.token_ids.index(stop)
    decoding = Decoding(0.0, 1.0, 40, (stop,))
    stopped = ask(engine, [None], decoding, PROMPTS[:1])[f"base/{PROMPTS[0]}"]
    assert stopped.token_ids == free.token_ids[: first + 1]
    assert stopped.finish_reason == "stop"


def test_a_stop_text_cuts_where_the_transformers_engine_cuts(engine: Engine, dense: Path) -> None:
    tokenizer = load_tokenizer(dense)
    free = ask(engine, [None], GREEDY, PROMPTS)
    key, longest = max(free.items(), key=lambda item: len(item[1].token_ids))
    decoding = Decoding(0.0, 1.0, 40, (256, 258), (tokenizer.decode(longest.token_ids[11:13]),))
    prompt = key.removeprefix("base/")
    ours = ask(engine, [None], decoding, [prompt])[key]
    theirs = ask(TransformersEngine(dense, tokenizer, "float32", {}), [None], decoding, [prompt])[key]
    assert (ours.token_ids, ours.finish_reason) == (theirs.token_ids, "stop")
    assert len(ours.token_ids) <= 13


def test_the_canary_passes_for_the_trained_adapter_and_fails_for_a_spoiled_one(
    engine: Engine, dense: Path, tmp_path: Path
) -> None:
    directory = write_adapter(tmp_path / "trained", dense, seed=8, size=0.05)
    canaries = canaries_of(dense, with_adapter_by_hooks(dense, directory))
    sequences = [canary.token_ids for canary in canaries]
    shapes = read_shapes(dense)

    def result_of(name: str) -> tuple[bool, float]:
        scores = engine.log_probs(sequences, check_adapter(name, directory, shapes))
        result = check_canaries(canaries, scores, "float32")
        return result.passed, result.error

    passed, error = result_of("whole")
    assert passed
    assert error < 1e-4
    assert not check_canaries(canaries, engine.log_probs(sequences, None), "float32").passed
    edit_config(directory, lora_alpha=10.0)
    assert not result_of("wrong-scale")[0]
    edit_config(directory, lora_alpha=8.0)
    edit_adapter(directory, lambda t: [t[key].zero_() for key in t if ".layers.1." in key])
    assert not result_of("missing-layer")[0]


@pytest.mark.skipif("avx512f" not in Path("/proc/cpuinfo").read_text(), reason="vLLM's fp8 on a CPU is for AVX-512")
def test_with_keys_and_values_in_8_bits_a_trained_adapter_passes_and_a_spoiled_one_does_not(
    dense: Path, tmp_path: Path
) -> None:
    from workloads.engines.vllm.engine import VllmEngine

    directory = write_adapter(tmp_path / "trained", dense, seed=8, size=0.05)
    canaries = canaries_of(dense, with_adapter_by_hooks(dense, directory))
    shapes, flags = read_shapes(dense), {**VLLM_FLAGS, "kv_cache_dtype": "fp8"}
    asked = EngineIdentity(name="vllm", version=vllm.__version__, dtype="float32", flags=flags)
    engine = VllmEngine.start(asked, dense, shapes, load_tokenizer(dense), Demands(80, 4, "all"))
    try:

        def result_of(name: str, directory: Path) -> CanaryResult:
            scores = engine.log_probs([one.token_ids for one in canaries], check_adapter(name, directory, shapes))
            return check_canaries(canaries, scores, coarsest_dtype(asked))

        whole = result_of("whole", directory)
        assert whole.passed
        assert whole.error > TOLERANCE["float32"], "nothing was held in 8 bits"
        edit_config(directory, lora_alpha=24.0)
        assert not result_of("wrong-scale", directory).passed
        assert engine.flags["kv_cache_dtype"] == "fp8"
    finally:
        engine.close()


def test_canaries_are_scored_while_others_generate(engine: Engine, dense: Path, variants: list[Adapter | None]) -> None:
    """Several sequences are scored in one batch with rows that decode, as in a group with several adapters."""
    small = TransformersEngine(dense, load_tokenizer(dense), "float32", {})
    sequences = [list(prompt.encode()) * 3 for prompt in PROMPTS]
    expected = [small.log_probs(sequences, adapter) for adapter in variants]
    for number, prompt in enumerate(PROMPTS * 2):
        engine.submit(Request(f"busy/{number}", "busy", tuple(prompt.encode()), variants[1], GREEDY, 1))
    assert engine.step() == [], "all are under way"
    found = [engine.log_probs(sequences, adapter) for adapter in variants]
    while engine.pending:
        engine.step()
    for ours, theirs in zip(found, expected, strict=True):
        for scores, reference in zip(ours, theirs, strict=True):
            assert scores == pytest.approx(reference, abs=1e-3)


def test_a_poison_adapter_is_refused_and_the_engine_lives(
    engine: Engine, dense: Path, variants: list[Adapter | None], tmp_path: Path
) -> None:
    directory = write_adapter(tmp_path / "poison", dense, seed=9)
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:-50])
    with pytest.raises(BadAdapter):
        engine.load(Adapter("poison", directory, 4))
    with pytest.raises(BadAdapter, match="rank is 64"):
        engine.load(Adapter("large", directory, 64))
    assert ask(engine, variants[:2], GREEDY, PROMPTS[:1])


def test_a_request_that_the_engine_refuses_fails_alone(engine: Engine) -> None:
    too_long = Request("too-long", "base", tuple(b"x" * 2000), None, GREEDY, 1)
    engine.submit(too_long)
    found = ask(engine, [None], GREEDY, PROMPTS[:2])
    assert found["too-long"].finish_reason == "error"
    assert found["too-long"].error
    assert {found[f"base/{prompt}"].finish_reason for prompt in PROMPTS[:2]} <= {"stop", "length"}


def test_more_requests_than_rows_have_the_outputs_that_they_have_alone(engine: "VllmEngine") -> None:
    """They join the batch a few at a time, when others end."""
    rows = int(engine.flags["max_num_seqs"])
    free = Decoding(temperature=0.0, top_p=1.0, limit_tokens=40, stop_token_ids=())
    alone = ask(engine, [None], free, PROMPTS[:1])[f"base/{PROMPTS[0]}"].token_ids
    limits = {f"of {number}": number % 23 + 1 for number in range(90)}
    for name, limit in limits.items():
        decoding = replace(free, limit_tokens=limit)
        engine.submit(Request(name, "base", tuple(PROMPTS[0].encode()), None, decoding, 1))
    assert engine.pending == len(limits) > 2 * rows
    found: dict[str, Finished] = {}
    under_way, joins = 0, list[int]()
    while engine.pending:
        finished = engine.step()
        found |= {one.id: one for one in finished}
        before, under_way = under_way, engine.under_way
        assert under_way <= rows
        joins.append(under_way + len(finished) - before)
    assert sum(joins) == len(limits)
    assert joins[0] == rows
    late = [joined for joined in joins[1:] if joined]
    assert min(late[:-1]) >= rows // 16, "one by one"
    assert {name: finished.token_ids for name, finished in found.items()} == {
        name: alone[:limit] for name, limit in limits.items()
    }


def test_requests_of_another_adapter_are_wanted_where_a_slot_and_rows_are_free(
    engine: "VllmEngine", variants: list[Adapter | None]
) -> None:
    base, first, second, third = variants
    free = Decoding(temperature=0.0, top_p=1.0, limit_tokens=30, stop_token_ids=())

    def submit(adapter: Adapter | None, count: int) -> None:
        for number in range(count):
            name = f"{adapter.name if adapter else 'base'}/{number}/{engine.pending}"
            engine.submit(Request(name, "group", tuple(PROMPTS[0].encode()), adapter, free, 1))

    submit(base, 1)
    assert [engine.room(requests) for requests in (1, 31, 32)] == [2, 1, 1]
    for adapter in (first, second):
        assert engine.wants(adapter)
        assert adapter is not None
        engine.load(adapter)
        submit(adapter, 1)
    assert [engine.wants(adapter) for adapter in (base, first, second, third)] == [True, True, True, False]
    assert engine.room(1) == 0, "no slot is left for another adapter"
    submit(base, int(engine.flags["max_num_seqs"]) - 3)
    assert [engine.wants(adapter) for adapter in (base, first, third)] == [False, False, False]
    while engine.pending:
        engine.step()
    assert engine.wants(third)


def test_a_refused_request_among_more_than_there_are_rows_fails_alone(engine: Engine) -> None:
    bad = {f"too long {number}" for number in range(40)}
    for name in sorted(bad):
        engine.submit(Request(name, "base", tuple(b"x" * 2000), None, GREEDY, 1))
    found = ask(engine, [None], GREEDY, PROMPTS)
    assert {name for name, finished in found.items() if finished.finish_reason == "error"} == bad


def test_the_record_holds_flags_and_versions(engine: Engine) -> None:
    assert engine.flags["max_loras"] == 2
    assert engine.flags["max_lora_rank"] == 32
    assert engine.versions["vllm"] == vllm.__version__
    assert engine.accepts(Demands(80, 32, "all"))
    assert not engine.accepts(Demands(80, 64))


def test_a_warm_up_leaves_nothing_behind_and_changes_no_output(
    engine: "VllmEngine", dense: Path, variants: list[Adapter | None]
) -> None:
    before = ask(engine, variants, GREEDY, PROMPTS)
    warm_up(engine._inner, engine._settings, read_shapes(dense), "float32")
    assert not engine._inner.has_unfinished_requests()
    assert NUMBER not in engine._inner.list_loras()
    after = ask(engine, variants, GREEDY, PROMPTS)
    assert {name: found.token_ids for name, found in after.items()} == {
        name: found.token_ids for name, found in before.items()
    }
