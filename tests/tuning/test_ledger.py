"""The ledger: charged once, never past the budget, whatever arrives."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zip_ray.tuning.ledger import Account, Ledger, settle


@given(
    budget=st.integers(0, 40),
    events=st.lists(st.tuples(st.sampled_from(["issue", "complete"]), st.integers(1, 3), st.integers(1, 4))),
)
def test_charged_never_exceeds_the_budget(budget: int, events: list[tuple[str, int, int]]) -> None:
    ledger, flying, done, again = Ledger(budget), 0, 0, 0
    for kind, queries, attempts in events:
        if kind == "issue" and queries <= ledger.left:
            ledger.issue(queries)
            flying += queries
        elif kind == "complete" and queries <= flying:
            ledger.complete(queries, attempts)
            flying, done, again = flying - queries, done + queries, again + queries * (attempts - 1)
        assert ledger.held == flying
        assert ledger.account.charged == ledger.account.completed == done
        assert ledger.account.charged + flying <= budget
        assert ledger.account.wasted == again
        assert ledger.account.issued == done + flying + again


def test_refuses_queries_past_the_budget_and_answers_to_nothing() -> None:
    ledger = Ledger(4)
    ledger.issue(4)
    assert ledger.left == 0
    with pytest.raises(ValueError, match="budget of 4 queries"):
        ledger.issue(1)
    ledger.complete(4, attempts=1)
    with pytest.raises(ValueError, match="only 0 are in flight"):
        ledger.complete(2, attempts=1)


def test_continues_from_an_account() -> None:
    ledger = Ledger(100, Account(issued=60, completed=50, charged=50, wasted=10))
    assert ledger.left == 50


@pytest.mark.parametrize(("answered", "issued"), [(0, 70), (6, 70), (10, 70), (24, 84)])
def test_settling_wastes_what_was_in_flight_and_what_was_undone(answered: int, issued: int) -> None:
    cut_off = Account(issued=70, completed=50, charged=50, wasted=10)  # ten are in flight
    assert settle(cut_off, answered) == Account(issued, completed=50, charged=50, wasted=issued - 50)
    assert settle(settle(cut_off, answered)) == settle(cut_off, answered)


def test_without_a_budget_there_is_always_room() -> None:
    assert Ledger(None).left == math.inf
