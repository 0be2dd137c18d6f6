"""The sentence on the best run does not hide losses on other benchmarks, nor empty outputs."""

from typing import Any

from tests.results.made_experiment import MadeRun, experiment
from workloads.api.manifest import Manifest
from workloads.report.headline import headline
from workloads.report.summary import summary
from workloads.results.conclusions import conclusions

N = 40
LOW = MadeRun("low", (100,), changes={"learning_rate": 1e-3})
HIGH = MadeRun("high", (100,), changes={"learning_rate": 5e-3})
EQUAL = "R" * 20 + "W" * 20


def made(low: tuple[str, str], high: tuple[str, str], **changes: Any) -> Manifest:
    """The base gets half of both benchmarks; `low` and `high` are verdicts on (sums, lists)."""
    by_model = {"base": (EQUAL, EQUAL), "low@100": low, "high@100": high}
    codes = {
        (model, name, 4096): text
        for model, texts in by_model.items()
        for name, text in zip(("sums", "lists"), texts, strict=True)
    }
    return experiment((LOW, HIGH), codes, problems={"sums": N, "lists": N}, **changes)


def test_a_best_run_that_loses_on_a_benchmark_is_named_with_what_it_loses() -> None:
    manifest = made(("W" * N, "W" * N), ("R" * N, "W" * N))
    found = conclusions(manifest)
    assert found.best.run == "high"
    loss = "high (high@100) is above the base on sums (+50.0 points) and below it on lists (-50.0 points)."
    assert found.caveats == (loss,)
    assert headline(manifest, found).endswith(loss)
    assert loss in summary(manifest, found)


def test_a_run_that_only_loses_is_named_only_if_it_is_the_best_one() -> None:
    found = conclusions(made(("W" * N, EQUAL), ("R" * 2 + "W" * 38, EQUAL)))
    assert found.best.run is None
    assert found.caveats == ()


def test_equal_runs_have_no_caveat() -> None:
    assert conclusions(made((EQUAL, EQUAL), (EQUAL, EQUAL))).caveats == ()


def test_empty_outputs_are_named_with_their_share() -> None:
    tokens = {("base", "sums"): (1,) * 30 + (9,) * 10, ("high@100", "lists"): (1,) * 3 + (9,) * 37}
    manifest = made((EQUAL, EQUAL), (EQUAL, EQUAL), tokens=tokens)
    found = conclusions(manifest)
    assert found.caveats == ("The base has empty outputs: 75% on sums (30/40).",)
    assert headline(manifest, found).endswith(found.caveats[0])


def test_a_token_at_the_limit_is_not_an_empty_output() -> None:
    manifest = made((EQUAL, EQUAL), (EQUAL, EQUAL), tokens={("base", "sums"): (1,) * N})
    cut = tuple(e.model_copy(update={"finish": "l" * N}) if e.model == "base" else e for e in manifest.evaluations)
    assert conclusions(manifest.model_copy(update={"evaluations": cut})).caveats == ()
