"""Evaluations are counted in one way: one model on one benchmark is one evaluation, for any number of parts."""

from workloads.api.counts import EvaluationCounts, State, evaluation_counts, evaluation_states

Part = tuple[str, str, State]
FAST: Part = ("base", "math-500", "done")
REST: Part = ("base", "math-500", "waiting")


def test_parts_of_one_evaluation_are_counted_once() -> None:
    assert evaluation_counts([FAST, FAST, ("mine@100", "math-500", "done")]) == EvaluationCounts(2, 2, 0)


def test_an_evaluation_is_graded_when_all_of_its_parts_are() -> None:
    assert evaluation_states([FAST, REST]) == {("base", "math-500"): "running"}
    assert evaluation_counts([FAST, REST]) == EvaluationCounts(1, 0, 0)


def test_one_failed_part_fails_the_evaluation_and_is_counted_once() -> None:
    failed: Part = ("base", "math-500", "failed")
    assert evaluation_counts([FAST, failed]) == EvaluationCounts(1, 0, 1)
    assert evaluation_counts([failed, failed]) == EvaluationCounts(1, 0, 1)


def test_an_evaluation_waits_if_all_its_parts_wait() -> None:
    assert evaluation_states([REST, REST]) == {("base", "math-500"): "waiting"}
