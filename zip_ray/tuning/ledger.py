"""The account of queries: each is charged once, whatever was re-issued, lost or duplicated."""

from dataclasses import dataclass, replace

from zip_ray.protocol.messages import Ask, AskResult


@dataclass(frozen=True)
class Account:
    """The four counters, in queries."""

    issued: int = 0
    """Sent out, re-issues counted."""
    completed: int = 0
    """Answered and told to the optimiser."""
    charged: int = 0
    """Counted against the budget; never exceeds it."""
    wasted: int = 0
    """Issued without use: re-issues, duplicates, and what a resume has to do again."""


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
    """Accounts for asks between issue and completion.

    An ask is charged when its answer is told; what is in flight is held against the budget, so that `charged` cannot
    pass it whatever arrives.
    """

    def __init__(self, budget: int | None, account: Account | None = None) -> None:
        self._budget = budget
        self._account = account or Account()
        self._in_flight: set[int] = set()
        self._held = 0

    @property
    def in_flight(self) -> int:
        """Asks issued and not yet answered."""
        return len(self._in_flight)

    @property
    def account(self) -> Account:
        """The counters now."""
        return self._account

    def admits(self, queries: int) -> bool:
        """Whether the budget has room for that many more queries, beside those in flight."""
        return self._budget is None or self._account.charged + self._held + queries <= self._budget

    def issue(self, ask: Ask) -> None:
        """Hold an ask's queries against the budget.

        Raises:
            ValueError: the ask is in flight already, or the budget has no room for it.
        """
        if ask.id in self._in_flight:
            raise ValueError(f"ask {ask.id} is in flight already")
        if not self.admits(ask.queries):
            raise ValueError(f"no room in the budget of {self._budget} queries for ask {ask.id}")
        self._in_flight.add(ask.id)
        self._held += ask.queries
        self._add(issued=ask.queries)

    def complete(self, result: AskResult, attempts: int) -> bool:
        """Charge an answered ask; False for an answer that is not awaited, which counts as issued in vain.

        Args:
            result: the answer.
            attempts: how often the ask was issued until it was answered.
        """
        queries = result.queries
        if result.id not in self._in_flight:
            self._add(issued=queries, wasted=queries)
            return False
        self._in_flight.remove(result.id)
        self._held -= queries
        again = queries * (attempts - 1)
        self._add(issued=again, completed=queries, charged=queries, wasted=again)
        return True

    def _add(self, issued: int = 0, completed: int = 0, charged: int = 0, wasted: int = 0) -> None:
        a = self._account
        self._account = Account(a.issued + issued, a.completed + completed, a.charged + charged, a.wasted + wasted)
