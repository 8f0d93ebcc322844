"""Whom the Ray pool replaces, gives up and waits for: without Ray, in a time of its own."""

import pytest

from tests.fake_ray import FakeRay
from tests.fakes import FakeScorer, make_pairs
from tests.test_pool_contract import drain


def test_answers_that_come_while_it_waits_for_facts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=(2, 3))
    pool.facts()
    for number in range(6):
        pool.submit(make_pairs(number))
    fake.lose(*fake.actors[:2])
    answers = pool.collect(1.0)
    pool.facts()
    assert len(pool.pids()) >= 2
    answers += drain(pool, 6 - len(answers))
    assert sorted(answer.result.id for answer in answers) == list(range(6))
    assert pool.collect(1.0) == []
