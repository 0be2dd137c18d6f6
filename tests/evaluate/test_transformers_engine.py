from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.evaluate.models import with_adapter_by_hooks, write_adapter
from workloads.engines.base import Adapter, Decoding, Engine, Finished, Request, request_seed
from workloads.engines.transformers.engine import TransformersEngine
from workloads.models.adapters import check_adapter
from workloads.models.shapes import read_shapes
from workloads.text.tokenizer import load_tokenizer

GREEDY = Decoding(temperature=0.0, top_p=1.0, limit_tokens=24, stop_token_ids=(256, 258))
SAMPLED = Decoding(temperature=1.0, top_p=0.9, limit_tokens=24, stop_token_ids=(256, 258))
PROMPTS = ["2 + 2 =", "a", "The longest of these prompts, by far.", "x" * 17, "Hello?"]


def engine_for(base: Path, **flags: int) -> TransformersEngine:
    return TransformersEngine(base, load_tokenizer(base), "float32", dict(flags))


def adapter_at(base: Path, directory: Path) -> Adapter:
    return check_adapter(directory.name, directory, read_shapes(base))


def ask(
    engine: Engine,
    prompts: Sequence[str],
    decoding: Decoding,
    adapter: Adapter | None = None,
    group: str = "one",
) -> dict[str, Finished]:
    for prompt in prompts:
        ids = tuple(prompt.encode())
        engine.submit(Request(f"{group}/{prompt}", group, ids, adapter, decoding, request_seed(7, prompt, 0)))
    found: dict[str, Finished] = {}
    while engine.pending:
        found |= {finished.id: finished for finished in engine.step()}
    return found


@torch.inference_mode()
def greedy_by_hand(model: Any, prompt: str, decoding: Decoding) -> tuple[int, ...]:
    """One row, no padding, no cache."""
    ids = list(prompt.encode())
    start = len(ids)
    while len(ids) - start < decoding.limit_tokens:
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] in decoding.stop_token_ids:
            break
    return tuple(ids[start:])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_padded_batch_gives_each_row_what_it_gets_alone(kind: str, request: pytest.FixtureRequest) -> None:
    base: Path = request.getfixturevalue(kind)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    found = ask(engine_for(base), PROMPTS, GREEDY)
    for prompt in PROMPTS:
        assert found[f"one/{prompt}"].token_ids == greedy_by_hand(model, prompt, GREEDY), prompt
    assert {finished.finish_reason for finished in found.values()} <= {"stop", "length"}


@pytest.mark.slow
def test_long_outputs_outgrow_the_cache_and_rows_leave_it_unharmed(dense: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
    long = Decoding(temperature=0.0, top_p=1.0, limit_tokens=150, stop_token_ids=(256, 258))
    found = ask(engine_for(dense), PROMPTS, long)
    assert len({len(finished.token_ids) for finished in found.values()}) > 1
    assert max(len(finished.token_ids) for finished in found.values()) > 70
    for prompt in PROMPTS:
        assert found[f"one/{prompt}"].token_ids == greedy_by_hand(model, prompt, long), prompt


@pytest.mark.slow
def test_each_adapter_computes_what_lora_defines_and_the_base_comes_back_bit_for_bit(
    dense: Path, adapters: list[Path]
) -> None:
    engine = engine_for(dense)
    before = {name: weight.clone() for name, weight in engine._model.named_parameters()}
    base_found = ask(engine, PROMPTS, GREEDY, group="base")
    for directory in adapters:
        found = ask(engine, PROMPTS, GREEDY, adapter_at(dense, directory), group=directory.name)
        reference = with_adapter_by_hooks(dense, directory)
        for prompt in PROMPTS:
            assert found[f"{directory.name}/{prompt}"].token_ids == greedy_by_hand(reference, prompt, GREEDY)
        assert [f.token_ids for f in found.values()] != [f.token_ids for f in base_found.values()]
    again = ask(engine, PROMPTS, GREEDY, group="base")
    assert {key: f.token_ids for key, f in again.items()} == {key: f.token_ids for key, f in base_found.items()}
    for name, weight in engine._model.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_experts_one_by_one_reach_the_fused_parameters(moe: Path, tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "experts", moe, seed=4, only="experts.2.up_proj")
    engine = engine_for(moe)
    before = {name: weight.clone() for name, weight in engine._model.named_parameters()}
    engine._merged.merge(Adapter("a", directory, 4))
    for name, weight in engine._model.named_parameters():
        changed = (weight != before[name]).any(dim=-1).nonzero()
        if name.endswith("experts.gate_up_proj"):
            assert {(int(expert), int(row) >= 32) for expert, row in changed} == {(2, True)}
        else:
            assert changed.numel() == 0, name


def test_sampled_outputs_depend_on_seed_problem_and_index_and_not_on_the_queue(
    dense: Path, adapters: list[Path]
) -> None:
    alone = ask(engine_for(dense), PROMPTS[:3], SAMPLED)
    engine = engine_for(dense)
    for prompt in PROMPTS:
        request = Request(f"x/{prompt}", "x", tuple(prompt.encode()), adapter_at(dense, adapters[0]), SAMPLED, 1)
        engine.submit(request)
    among = ask(engine, PROMPTS[:3], SAMPLED)
    assert {key: found.token_ids for key, found in alone.items()} == {key: among[key].token_ids for key in alone}
    assert (
        len({request_seed(7, "p", 0), request_seed(7, "p", 1), request_seed(7, "q", 0), request_seed(8, "p", 0)}) == 4
    )


def test_a_queue_longer_than_a_batch_is_worked_off(dense: Path) -> None:
    small = ask(engine_for(dense, batch_rows=2), PROMPTS, GREEDY)
    assert {key: f.token_ids for key, f in small.items()} == {
        key: f.token_ids for key, f in ask(engine_for(dense), PROMPTS, GREEDY).items()
    }


def test_a_stop_text_ends_an_output_and_stays_in_it(dense: Path) -> None:
    free = ask(engine_for(dense), PROMPTS, GREEDY)
    tokenizer = load_tokenizer(dense)
    key, finished = next((key, f) for key, f in free.items() if len(f.token_ids) == GREEDY.limit_tokens)
    text = tokenizer.decode(finished.token_ids[5:8])
    stopping = Decoding(0.0, 1.0, 24, (256, 258), (text,))
    stopped = ask(engine_for(dense), [key.removeprefix("one/")], stopping)[key]
    assert stopped.finish_reason == "stop"
    assert text in tokenizer.decode(stopped.token_ids)
    assert text not in tokenizer.decode(stopped.token_ids[:-1])
    assert stopped.token_ids == finished.token_ids[: len(stopped.token_ids)]


def test_log_probs_are_the_models(dense: Path, adapters: list[Path]) -> None:
    engine = engine_for(dense)
    ids = list(b"A short canary.")
    scores = engine.log_probs([ids], adapter_at(dense, adapters[1]))[0]
    with torch.inference_mode():
        logits = with_adapter_by_hooks(dense, adapters[1])(input_ids=torch.tensor([ids])).logits[0]
    expected = torch.log_softmax(logits, -1)[:-1].gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(scores), expected, atol=1e-4, rtol=0)


def test_an_unknown_flag_is_named(dense: Path) -> None:
    with pytest.raises(ValueError, match="max_loras"):
        engine_for(dense, max_loras=4)
