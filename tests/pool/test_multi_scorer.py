"""The scorers of many runs in one process: each serves its own run, and a fault affects only that run."""

import pytest

from tests.support.fakes import make_pair
from tests.support.scorer_keys import BUGGY, NO_IMAGES, STUCK, KeyedScorer
from zip_ray.errors import InputError
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Evaluation, EvaluationResult, FactsRequest, Failure, Pass, Priority, new_work


def evaluate(scorers: MultiScorer, key: str) -> object:
    return scorers.answer(new_work(Evaluation("test", "{}"), Priority.EVALUATION, key))


def test_each_work_is_answered_by_the_scorer_of_its_key() -> None:
    scorers = MultiScorer(KeyedScorer, [])
    for key in ("1", "2", "1"):
        assert evaluate(scorers, key) == EvaluationResult(float(key), 0.5, 6)
        facts = scorers.answer(new_work(FactsRequest(), Priority.EVALUATION, key))
        assert isinstance(facts, Facts)
        assert facts.template == f"{key} {{}}"


def test_the_scorers_that_were_used_last_are_kept() -> None:
    """16 scorers suffice for eight runs at once: each may use its own, or one for testing on other data."""
    built: list[str] = []

    def build(key: str) -> KeyedScorer:
        built.append(key)
        return KeyedScorer(key)

    scorers, keys = MultiScorer(build, []), [str(number) for number in range(17)]
    for key in [*keys[:16], "0", keys[16], "0", "1"]:
        evaluate(scorers, key)
    assert built == [*keys, "1"]


def test_the_facts_are_those_of_the_first_run_that_can_be_scored() -> None:
    assert MultiScorer(KeyedScorer, [NO_IMAGES, "4", "5"]).facts().template == "4 {}"
    with pytest.raises(InputError, match="no such images"):
        MultiScorer(KeyedScorer, [NO_IMAGES]).facts()


def test_what_goes_wrong_is_the_answer() -> None:
    scorers = MultiScorer(KeyedScorer, [])
    assert evaluate(scorers, NO_IMAGES) == Failure("task.root: no such images: give another", is_input=True)
    assert scorers.answer(new_work(Pass((make_pair(0),)), Priority.QUERY, BUGGY)) == Failure(
        "ZeroDivisionError: a fault of this method"
    )
    assert evaluate(scorers, "1") == EvaluationResult(1.0, 0.5, 6)


def test_what_would_spoil_the_process_is_left_to_the_pool() -> None:
    with pytest.raises(RuntimeError, match="CUDA error"):
        evaluate(MultiScorer(KeyedScorer, []), STUCK)
