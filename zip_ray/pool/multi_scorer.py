"""The scorers of many runs in one process: each is built when its run first asks for it."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from zip_ray.errors import InputError
from zip_ray.pool.contract import ScorerLike
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import FactsRequest, Failure, Value, Work

RUNS_AT_ONCE = 8
"""Runs that may share a pool at a time."""
KEPT = 2 * RUNS_AT_ONCE
"""Scorers that a process keeps: each run may use its own, or one for testing on other data."""
STICKY = "CUDA error"
"""Errors after which all further work of the process would fail too."""
_log = logging.getLogger(__name__)


class MultiScorer:
    """The scorers of many runs; the ones used last are kept."""

    def __init__(self, build: Callable[[str], ScorerLike], keys: Sequence[str]) -> None:
        """Prepare without building a scorer.

        Args:
            build: makes the scorer of a key.
            keys: of the runs to come, the first one first.
        """
        self._build, self._keys = build, keys
        self._scorers: OrderedDict[str, ScorerLike] = OrderedDict()

    def facts(self) -> Facts:
        """The facts of the first run that can be scored here.

        Raises:
            InputError: none can be; the fault of the last.
        """
        fault = InputError("no run is left to score")
        for key in self._keys:
            try:
                return self._scorer(key).facts()
            except InputError as error:
                fault = error
        raise fault

    def answer(self, work: Work) -> Value:
        """Process a piece of work of some run. An error is that run's failure, and is returned as its result."""
        try:
            scorer = self._scorer(work.scorer)
            return scorer.facts() if work.body == FactsRequest() else scorer.answer(work)
        except InputError as error:
            return Failure(str(error), is_input=True)
        except Exception as error:
            if STICKY in str(error):
                raise
            _log.exception("work %d failed", work.id)
            return Failure(f"{type(error).__name__}: {' '.join(str(error).split())}")

    def _scorer(self, key: str) -> ScorerLike:
        if key not in self._scorers:
            while len(self._scorers) >= KEPT:
                self._scorers.popitem(last=False)
            self._scorers[key] = self._build(key)
        self._scorers.move_to_end(key)
        return self._scorers[key]
