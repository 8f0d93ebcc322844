"""The account of queries: each is charged once, whatever was re-issued, lost or duplicated."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Account:
    """The four counters, in queries."""

    issued: int = 0
    """Sent out, re-issues counted."""
    completed: int = 0
    """Answered and passed to the optimiser."""
    charged: int = 0
    """Counted against the budget; never exceeds it."""
    wasted: int = 0
    """Issued without use: re-issues, duplicates, and queries that a resume repeats."""


def with_answered(account: Account, queries: int) -> Account:
    """The account after queries outside the loop, each issued once and answered."""
    a = account
    return Account(a.issued + queries, a.completed + queries, a.charged + queries, a.wasted)


def settle(account: Account, answered: int = 0) -> Account:
    """The account of a run that was cut off, with nothing in flight: what was issued and not completed is wasted.

    Args:
        account: as it was last saved.
        answered: queries that were answered after that, and whose effect is undone.
    """
    in_flight = account.issued - account.completed - account.wasted
    issued = account.issued + max(answered - in_flight, 0)
    return replace(account, issued=issued, wasted=issued - account.completed)


class Ledger:
    """Accounts for queries between issue and completion.

    Queries are charged when their result is used or dropped; queries in flight are reserved, so that `charged` cannot
    exceed the budget.
    """

    def __init__(self, budget: int | None, account: Account | None = None) -> None:
        """Open the account, with nothing in flight.

        Args:
            budget: queries that may be charged; None for no limit.
            account: of the run so far.
        """
        self._budget = budget
        self.account = account or Account()
        """The counters now."""
        self.held = 0
        """Queries issued and not yet answered."""
        self.left = math.inf if budget is None else budget - self.account.charged
        """Queries for which the budget has room, beside those in flight."""

    def issue(self, queries: int) -> None:
        """Hold queries against the budget.

        Raises:
            ValueError: the budget has no room for them.
        """
        if queries > self.left:
            raise ValueError(f"no room in the budget of {self._budget} queries for {queries} more")
        a = self.account
        self.held, self.left = self.held + queries, self.left - queries
        self.account = Account(a.issued + queries, a.completed, a.charged, a.wasted)

    def complete(self, queries: int, attempts: int) -> None:
        """Charge queries that are answered.

        Args:
            queries: how many.
            attempts: how often they were issued until they were answered.

        Raises:
            ValueError: more than are in flight.
        """
        if queries > self.held:
            raise ValueError(f"{queries} queries are answered, but only {self.held} are in flight")
        a, again = self.account, queries * (attempts - 1)
        self.held -= queries
        self.account = Account(a.issued + again, a.completed + queries, a.charged + queries, a.wasted + again)
