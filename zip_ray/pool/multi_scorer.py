"""What a pool of many runs hosts in place of a scorer: it builds the scorer of a run when it is first asked for it."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers.spsa import PairOptions, ZipOptions
from zip_ray.pool.contract import ScorerLike
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Failure, Hosted, HostedResult, Result, Work

AT_ONCE = 8
"""Runs that may go on at a time."""
KEPT = 2 * AT_ONCE
"""Scorers that a process keeps: each run may be at its own, or at one for testing on other data."""
STICKY = "CUDA error"
"""After one, all that the process is given next would fail too."""
_log = logging.getLogger(__name__)


def scorer_key(config: Config) -> str:
    """The config as a scorer needs it, as JSON: runs with the same key share a scorer."""
    optimizer = config.optimizer
    own = ZipOptions(loss=optimizer.loss)
    if config.model.precision != "fp32" and isinstance(
        optimizer, PairOptions
    ):  # which is judged by the loss differences of the run's own pairs
        own = own.model_copy(
            update={"perturbation_scale": optimizer.perturbation_scale, "perturbation": optimizer.perturbation}
        )
    rest = {name: Config.model_fields[name].default for name in ("budget", "validation", "output", "tracking")}
    return config.model_copy(update={"optimizer": own, **rest}).model_dump_json()


class ScorerHost:
    """The scorers of many runs in one process; the ones used last are kept."""

    def __init__(self, build: Callable[[Config], ScorerLike], keys: Sequence[str]) -> None:
        """Build nothing yet.

        Args:
            build: makes the scorer of a config.
            keys: of the runs to come (see `scorer_key`), the first one first.
        """
        self._build, self._keys = build, keys
        self._scorers: OrderedDict[str, ScorerLike] = OrderedDict()

    def facts(self) -> Facts:
        """Those of the first run that can be scored here.

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

    def answer(self, work: Work) -> Result:
        """Do a piece of some run's work. What goes wrong is that run's failure: it goes back as an answer."""
        assert isinstance(work, Hosted)
        try:
            scorer = self._scorer(work.scorer)
            return HostedResult(work.id, scorer.answer(work.work) if work.work else scorer.facts())
        except InputError as error:
            return HostedResult(work.id, Failure(str(error), is_input=True))
        except Exception as error:
            if STICKY in str(error):
                raise
            _log.exception("work %d failed", work.id)
            return HostedResult(work.id, Failure(f"{type(error).__name__}: {' '.join(str(error).split())}"))

    def _scorer(self, key: str) -> ScorerLike:
        if key not in self._scorers:
            while len(self._scorers) >= KEPT:
                self._scorers.popitem(last=False)
            self._scorers[key] = self._build(Config.model_validate_json(key))
        self._scorers.move_to_end(key)
        return self._scorers[key]
