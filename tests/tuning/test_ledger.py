"""The ledger: charged once, never past the budget, whatever arrives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zip_ray.protocol.messages import Pair, PairResult, Perturbation
from zip_ray.tuning.ledger import Account, Ledger, settle


def pair(number: int) -> Pair:
    return Pair(number, 1, 0, np.zeros(1), 0.01, Perturbation("random-sign", 1, 1, number), 1)


def result(number: int) -> PairResult:
    return PairResult(number, 1.0, 1.0, 0.5)


@given(
    budget=st.integers(0, 40),
    events=st.lists(st.tuples(st.sampled_from(["issue", "complete"]), st.integers(0, 12), st.integers(1, 4))),
)
def test_charged_never_exceeds_the_budget(budget: int, events: list[tuple[str, int, int]]) -> None:
    ledger, flying, done, strays, again = Ledger(budget), set(), 0, 0, 0
    for kind, number, attempts in events:
        if kind == "issue" and number not in flying and ledger.admits(2):
            ledger.issue(pair(number))
            flying.add(number)
        elif kind == "complete":
            accepted = ledger.complete(result(number), attempts)
            assert accepted == (number in flying)
            flying.discard(number)
            done, strays, again = (done + 1, strays, again + attempts - 1) if accepted else (done, strays + 1, again)
        assert ledger.account.charged == ledger.account.completed == 2 * done
        assert ledger.account.charged + 2 * len(flying) <= budget
        assert ledger.account.wasted == 2 * (strays + again)
        assert ledger.account.issued == 2 * (done + len(flying) + again + strays)


def test_refuses_a_pair_twice_in_flight_and_a_pair_past_the_budget() -> None:
    ledger = Ledger(4)
    ledger.issue(pair(0))
    with pytest.raises(ValueError, match="in flight already"):
        ledger.issue(pair(0))
    ledger.issue(pair(1))
    assert not ledger.admits(2)
    with pytest.raises(ValueError, match="budget of 4 queries"):
        ledger.issue(pair(2))


def test_goes_on_from_an_account() -> None:
    ledger = Ledger(100, Account(issued=60, completed=50, charged=50, wasted=10))
    assert ledger.admits(50)
    assert not ledger.admits(51)


@pytest.mark.parametrize(("answered", "issued"), [(0, 70), (6, 70), (10, 70), (24, 84)])
def test_settling_wastes_what_was_out_and_what_was_undone(answered: int, issued: int) -> None:
    cut_off = Account(issued=70, completed=50, charged=50, wasted=10)  # ten are out
    assert settle(cut_off, answered) == Account(issued, completed=50, charged=50, wasted=issued - 50)
    assert settle(settle(cut_off, answered)) == settle(cut_off, answered)


def test_without_a_budget_there_is_always_room() -> None:
    assert Ledger(None).admits(10**9)
