"""Made-up experiments whose truth is known: the report states the truth, and nothing else."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from tests.results.made_experiment import MadeRun, experiment
from workloads.api.manifest import Manifest
from workloads.report.summary import summary
from workloads.report.text import markdown
from workloads.results.base_comparison import base_on_shared
from workloads.results.conclusions import Conclusions, conclusions
from workloads.results.findings import Finding

MATH, CODE = "math-500", "mbpp-plus"
LONG, SHORT = MadeRun("long", (100, 200, 300), label="Long"), MadeRun("short", (100, 200, 300), label="Short")
N = 100


def noisy(codes: str, rate: float, seed: int) -> str:
    """Another model of the same strength: pairs of problems swap their verdicts, so that every count is the same."""
    rng, found = random.Random(seed), list(codes)
    for _ in range(int(rate * len(codes) / 2)):
        i, j = rng.sample(range(len(codes)), 2)
        found[i], found[j] = found[j], found[i]
    return "".join(found)


def of(right: int, wrong: int, unfinished: int, seed: int = 0) -> str:
    codes = list("R" * right + "W" * wrong + "n" * unfinished)
    random.Random(seed).shuffle(codes)
    return "".join(codes)


EVEN = of(70, 15, 15)


def planted(
    models: Mapping[tuple[str, str], str], runs: tuple[MadeRun, ...] = (LONG, SHORT), **changes: Any
) -> Manifest:
    """Verdicts at 4,096 tokens; a model that is not stated is as good as the base, with other problems right."""
    names = ["base", *(f"{run.name}@{samples}" for run in runs for samples in run.samples)]
    codes = {}
    for index, model in enumerate(names):
        for benchmark in (MATH, CODE):
            stated = models.get((model, benchmark))
            even = EVEN if model == "base" else noisy(EVEN, 0.2, 100 * index + len(benchmark))
            codes[model, benchmark, 4096] = even if stated is None else stated
    return experiment(runs, codes, problems={MATH: N, CODE: N}, **changes)


def finding(found: Conclusions, key: str) -> Finding:
    return next(item for item in found.findings if item.key == key)


def decided(found: Conclusions) -> set[str]:
    """Keys of findings that state a difference."""
    return {item.key for item in found.findings if item.verdict in ("supported", "contradicted", "mixed")}


def differences(found: Conclusions) -> set[tuple[str, str, str]]:
    """(model, benchmark, metric) of every statement that a model differs from the base."""
    rows = [c for row in found.rows.values() for c in (row.accuracy, row.completed)]
    return {(c.model, c.benchmark, c.metric) for c in rows if c.significant}


def test_1_equal_models_are_called_equal_nowhere_different() -> None:
    found = conclusions(planted({}))
    assert found.best.run is None
    assert "not distinguishable in accuracy" in found.best.sentence
    assert not differences(found)
    assert not decided(found)


def test_2_the_better_run_is_named() -> None:
    found = conclusions(planted({("short@300", MATH): of(98, 1, 1), ("short@300", CODE): of(97, 2, 1)}))
    assert (found.best.run, found.best.model) == ("short", "short@300")
    assert found.best.sentence.startswith("Best run: Short (short@300), ahead of Long in accuracy on ")


def test_3_a_collapse_of_completion_on_the_other_benchmark_is_found() -> None:
    falling = {("long@100", CODE): of(70, 15, 15), ("long@200", CODE): of(40, 10, 50, 1), ("long@300", CODE): of(20, 5, 75, 2)}  # fmt: skip
    found = conclusions(planted(falling))
    assert finding(found, f"degrades/long/{CODE}").verdict == "supported"
    assert finding(found, f"degrades/long/{MATH}").verdict == "undecidable"
    assert finding(found, "steady/long").verdict == "contradicted"
    assert ("long@300", CODE, "completed") in differences(found)
    assert not {key for key in decided(found) if "/short" in key and not key.startswith("steadier")}


def test_4_an_improvement_is_not_a_degradation() -> None:
    rising = {("long@100", MATH): of(40, 30, 30), ("long@200", MATH): of(60, 20, 20, 1), ("long@300", MATH): of(85, 10, 5, 2)}  # fmt: skip
    found = conclusions(planted(rising))
    assert finding(found, f"degrades/long/{MATH}").verdict == "contradicted"
    assert all(
        "falls" not in c.question or c.verdict == "contradicted"
        for c in finding(found, f"degrades/long/{MATH}").contrasts
    )


def budgets_experiment(short_at_2048: str, long_at_2048: str) -> Manifest:
    """Two runs, limits of 2,048 and 4,096 tokens, each graded at both; equal at 4,096 tokens."""
    short, long = MadeRun("short", (100, 200), 2048, label="Short"), MadeRun("long", (100, 200), 4096, label="Long")
    codes = {}
    for index, model in enumerate(("base", "short@100", "short@200", "long@100", "long@200")):
        early = short_at_2048 if model.startswith("short") else long_at_2048
        codes[model, MATH, 2048] = noisy(early, 0.1, index)
        codes[model, MATH, 4096] = noisy(of(80, 20, 0), 0.1, index)
    return experiment((short, long), codes, budgets=(2048, 4096), problems={MATH: N})


def test_5_unequal_budgets_alone_make_no_difference() -> None:
    found = conclusions(budgets_experiment(of(55, 15, 30), of(55, 15, 30)))
    assert finding(found, "limit/short/long").verdict == "undecidable"
    assert not decided(found)
    assert found.best.by_budget == {2048: None, 4096: None}


def test_6_a_shorter_limit_that_helps_is_found_at_the_budget_where_it_does() -> None:
    found = conclusions(budgets_experiment(of(80, 20, 0), of(45, 5, 50)))
    claim = finding(found, "limit/short/long")
    assert claim.verdict == "supported"
    assert {c.verdict for c in claim.contrasts if c.question.endswith("at 2,048 tokens")} == {"supported"}
    assert {c.verdict for c in claim.contrasts if c.question.endswith("at 4,096 tokens")} <= {"undecidable"}
    assert found.best.by_budget == {2048: "short", 4096: None}


@pytest.mark.parametrize(("state", "reason"), [("failed", "OutOfMemory: killed"), ("waiting", None)])
def test_7_a_missing_end_is_named_and_has_no_findings(state: str, reason: str | None) -> None:
    """The last checkpoint had a lower score; the last that is graded is the one before."""
    manifest = planted(
        {("long@100", MATH): of(95, 5, 0), ("long@200", MATH): of(50, 10, 40)},
        states={("long@300", MATH): (state, reason)},
    )
    found = conclusions(manifest)
    said = " ".join(summary(manifest, found))
    assert "Long at long@300: no result (" in said
    assert "long@200" not in said
    claim = finding(found, f"degrades/long/{MATH}")
    assert claim.verdict == "undecidable"
    assert "long@300 has no result" in claim.contrasts[-1].evidence


def test_8_a_base_on_all_problems_is_compared_on_the_shared_ones() -> None:
    """Models are equal on the 100 problems that all answered; the base's other 400 are harder."""
    run = MadeRun("mine", (100, 200))
    easy = of(91, 9, 0)
    codes = {("base", MATH, 4096): easy + of(303, 97, 0)}
    codes |= {(f"mine@{s}", MATH, 4096): noisy(easy, 0.1, s) for s in run.samples}
    manifest = experiment((run,), codes, problems={MATH: 500})
    found = conclusions(manifest)
    assert not differences(found)
    assert "the base gets 91.0% right on the 100 problems that runs were asked (78.8% on all 500)" in " ".join(summary(manifest, found))  # fmt: skip
    shared = base_on_shared(manifest, MATH, 4096)
    assert shared is not None
    assert (shared.accuracy.k, shared.accuracy.n) == (91, 100)
    assert "| base, the 100 shared outputs |" in markdown(manifest, found)


def test_9_a_gap_of_unfinished_answers_differs_from_one_of_wrong_answers() -> None:
    """On the problems that both completed, the model is right as often; a third of its answers does not complete."""
    size = 400
    base = of(320, 80, 0)
    cut = random.Random(9).sample(range(size), 140)
    unfinished = "".join("n" if i in set(cut) else code for i, code in enumerate(base))
    wrong = "".join("W" if i in set(cut) else code for i, code in enumerate(base))
    runs = (MadeRun("cut", (100, 200)), MadeRun("wrong", (100, 200)))
    codes = {("base", MATH, 4096): base}
    codes |= {(f"cut@{s}", MATH, 4096): unfinished for s in (100, 200)}
    codes |= {(f"wrong@{s}", MATH, 4096): wrong for s in (100, 200)}
    found = conclusions(experiment(runs, codes, problems={MATH: size}))
    assert finding(found, "completion/cut").verdict == "supported"
    assert finding(found, "completion/wrong").verdict == "contradicted"


def test_10_outputs_that_could_not_be_graded_are_left_out_and_counted() -> None:
    manifest = planted({("long@300", MATH): "e" * 3 + noisy(EVEN, 0.2, 3)[3:]})
    found = conclusions(manifest)
    assert not differences(found)
    cell = next(c for end in found.ends for c in end.cells if end.run == "long" and c.benchmark == MATH)
    assert cell.accuracy.left_out == 3
    assert "3 problems left out, not graded" in " ".join(summary(manifest, found))


def test_11_no_difference_is_supported_where_there_are_enough_problems() -> None:
    run, size = MadeRun("mine", (100, 200, 300)), 2000
    base = of(1400, 600, 0)
    codes = {("base", MATH, 4096): base}
    codes |= {(f"mine@{s}", MATH, 4096): noisy(base, 0.05, s) for s in run.samples}
    found = conclusions(experiment((run,), codes, problems={MATH: size}))
    assert finding(found, "steady/mine").verdict == "supported"
    assert found.ends[0].cells[0].accuracy.verdict == "equivalent to the base within 5 points"


def test_12_a_total_collapse_is_a_difference() -> None:
    """Every answer of the base is right, and no answer of the model completes: the difference is constant."""
    run = MadeRun("mine", (100, 200))
    codes = {("base", MATH, 4096): "R" * N, ("mine@100", MATH, 4096): "R" * N, ("mine@200", MATH, 4096): "n" * N}
    found = conclusions(experiment((run,), codes, problems={MATH: N}))
    assert finding(found, f"degrades/mine/{MATH}").verdict == "supported"
    split = finding(found, "completion/mine").contrasts[0]
    assert (split.verdict, split.needed) == ("supported", None)
    assert found.ends[0].cells[0].accuracy.verdict == "lower than the base"


def test_13_several_outputs_a_problem_do_not_make_a_difference_of_few_problems() -> None:
    """Two problems of six get worse, with 16 outputs each: the problems decide, not the 96 outputs."""
    run = MadeRun("mine", (100, 200))
    codes = {
        ("base", MATH, 4096): "R" * 96,
        ("mine@100", MATH, 4096): "R" * 96,
        ("mine@200", MATH, 4096): "R" * 64 + "W" * 32,
    }
    found = conclusions(experiment((run,), codes, problems={MATH: 6}, outputs=16))
    assert not differences(found)
    assert not decided(found)


def test_14_forgetting_is_compared_only_between_stated_domains() -> None:
    """The run on math loses 60 points on code; the run on code loses nothing on math."""
    for stated in (True, False):
        runs = (
            MadeRun("teach_math", (100, 200), data="a", domain="math" if stated else None),
            MadeRun("teach_code", (100, 200), data="b", domain="code" if stated else None),
        )
        found = conclusions(planted({("teach_math@200", CODE): of(10, 10, 80)}, runs))
        keys = {item.key: item.verdict for item in found.findings if item.key.startswith("asymmetric")}
        assert keys == ({"asymmetric/teach_math/teach_code": "supported"} if stated else {})


def test_15_a_shorter_limit_that_lowers_accuracy_is_found_at_equal_budgets_only() -> None:
    """Code at the shorter limit is right on half as many problems, at every number of samples and at both budgets."""
    runs = (
        MadeRun("long", (100, 200, 300), 4096, "math"),
        MadeRun("short", (100, 200), 2048, "math", changes={"overlong": "drop"}),
    )
    names = ["base", *(f"{run.name}@{samples}" for run in runs for samples in run.samples)]
    codes = {
        (name, MATH, budget): of(35, 50, 15, 1) if name.startswith("short") else EVEN
        for name in names
        for budget in (2048, 4096)
    }
    found = finding(
        conclusions(experiment(runs, codes, budgets=(2048, 4096), problems={MATH: N})), "limit-accuracy/short/long"
    )
    assert found.verdict == "supported"
    assert {c.verdict for c in found.contrasts} == {"supported"}
    assert sum("last checkpoints" in c.question for c in found.contrasts) == 2
    assert any("the limit is not all that differs" in doubt for doubt in found.doubts)


def test_a_report_of_the_source_experiment_makes_its_five_claims() -> None:
    runs = (
        MadeRun("math_default", (100, 200), 4096, "math", domain="math"),
        MadeRun("math_2k", (100, 200), 2048, "math", changes={"overlong": "drop"}, domain="math"),
        MadeRun("code_default", (100, 200), 4096, "code", domain="code"),
        MadeRun("code_2k", (100, 200), 2048, "code", changes={"overlong": "drop"}, domain="code"),
    )
    names = ["base", *(f"{run.name}@{samples}" for run in runs for samples in run.samples)]
    worse = {name: of(30, 5, 65, 7) for name in names if name.startswith("math_default")}
    codes = {
        (name, benchmark, budget): worse.get(name, EVEN) for name in names for benchmark in (MATH, CODE) for budget in (2048, 4096)
    }  # fmt: skip
    found = conclusions(experiment(runs, codes, budgets=(2048, 4096), problems={MATH: N, CODE: N}))
    keys = {item.key for item in found.findings}
    assert keys >= {
        "completion/math_default",
        f"degrades/math_default/{MATH}",
        "steadier/code_default/math_default",
        "limit/code_2k/code_default",
        "limit-accuracy/math_2k/math_default",
        "asymmetric/math_default/code_default",
        "completion-elsewhere/math_default",
    }
