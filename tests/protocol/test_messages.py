"""Work has unique ids; results are marked usable or not; each slice has its share of a pass."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.fakes import make_pair
from zip_ray.protocol.messages import AskResult, Crops, Pass, Priority, Query, Slice, new_work
from zip_ray.protocol.perturbations import perturbation, points


def test_ids_are_given_once_and_rise() -> None:
    def make(_: int) -> list[int]:
        return [new_work(Crops(1), Priority.PREFETCH).id for _ in range(2000)]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(make, range(4)))
    assert all(ids == sorted(ids) for ids in found)
    together = [identity for ids in found for identity in ids]
    assert len(set(together)) == len(together)
    assert new_work(Crops(1), Priority.PREFETCH).id > max(together)


def test_evaluations_are_begun_before_queries_and_those_before_what_is_needed_later() -> None:
    assert sorted(Priority) == [Priority.EVALUATION, Priority.QUERY, Priority.PREFETCH]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_result_with_a_number_that_is_not_finite_cannot_be_used(bad: float) -> None:
    assert AskResult((1.0, 2.0), 0.5).finite
    assert AskResult((1.0,), 0.5, np.ones(3)).finite
    assert not AskResult((1.0, bad), 0.5).finite
    assert not AskResult((1.0,), 0.5, np.array([1.0, bad, 0.0])).finite
    scores = np.zeros((1, 2, 3), np.float32)
    assert AskResult((1.0,), 0.5, scores=scores).finite
    scores[0, 1, 2] = bad
    assert not AskResult((1.0,), 0.5, scores=scores).finite


def test_the_loss_of_a_result_is_the_mean_over_its_points() -> None:
    assert AskResult((1.0, 2.0), 0.5).loss == 1.5


def test_points_are_those_on_both_sides_of_a_pair_or_the_parameters_themselves() -> None:
    pair = make_pair(3)
    z = 0.01 * perturbation(pair.perturbation, 6)
    plus, minus = points(pair)
    np.testing.assert_array_equal(plus, pair.w + z)
    np.testing.assert_array_equal(minus, pair.w - z)
    query = Query(index=0, step=1, version=0, w=pair.w, batch=1)
    (alone,) = points(query)
    np.testing.assert_array_equal(alone, pair.w)


def test_shares_of_the_slices_of_a_pass_make_up_the_whole() -> None:
    pairs = (make_pair(0), make_pair(1))
    assert Pass(pairs).share == Slice(pairs, (0, 1), 0, 1).share == 1.0
    assert Slice(pairs, (1,), 2, 4).share == 1 / 8
    query = Query(index=0, step=1, version=0, w=np.zeros(6), batch=1)
    assert Slice((query,), (0,), 0, 3).share == pytest.approx(1 / 3)
