"""Runs of a suite side by side over one pool: which begin when, and how each ends."""

import logging
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from zip_ray.comparison.plan import Planned
from zip_ray.comparison.suite import Suite
from zip_ray.comparison.suite_folder import read_facts, write_facts
from zip_ray.comparison.suite_view import SuiteView
from zip_ray.comparison.targets import apply_to_targets
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config
from zip_ray.errors import InputError, OutputError
from zip_ray.pool.batching import most_passes
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.shared import PoolHub
from zip_ray.pool.splitting import split_if_asked
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.event_log import read_end
from zip_ray.runs.lifecycle import Listener, resume, tune
from zip_ray.runs.progress import accuracy_text

ALIKE = 4
"""Consecutive runs, of several tasks and methods, whose identical fault stops the suite."""
POLL_SECONDS = 0.5
"""Longest time before signals and idle actors are looked at again."""
_log = logging.getLogger(__name__)

MakeListener = Callable[[Config, Listener], Listener]
"""Makes the listener that receives the events of a run, given the config of the run and the suite's view."""


@dataclass(frozen=True)
class SuiteOutcome:
    """How a suite ended."""

    finished: int
    failures: dict[str, str]
    """By label of the run: why it did not come to its end, or was not tested on all targets."""
    left: int
    """Runs that were stopped, or not begun."""


class Runner:
    """The runs of a suite over a hub."""

    def __init__(
        self,
        folder: Path,
        suite: Suite,
        hub: PoolHub,
        interrupted: Callable[[], bool],
        make_listener: MakeListener,
        view: SuiteView,
    ) -> None:
        """Prepare the runner.

        Args:
            folder: the suite's, prepared.
            suite: what it is.
            hub: answers all runs.
            interrupted: whether the suite has been asked to stop; the runs ask it too.
            make_listener: called once for each run.
            view: shows how it goes.
        """
        self._folder, self._suite, self._hub = folder, suite, hub
        self._interrupted, self._make_listener, self._view = interrupted, make_listener, view
        self._failures: dict[str, str] = {}
        self._alike: list[tuple[Planned, str]] = []
        """The latest runs that ended, as far back as they failed for the same reason."""
        self._fault: OutputError | PoolError | None = None
        """An error that affects all runs."""

    def go(self, runs: Sequence[Planned], refused: Mapping[str, str] = MappingProxyType({})) -> SuiteOutcome:
        """Run these; a run that fails does not end the others, but a fault of all runs does.

        Args:
            runs: what is left of the suite.
            refused: those of them that cannot begin, by label, and why.

        Raises:
            InputError, PoolError: no scorer could be started, or several runs in a row failed alike.
            OutputError: the disk that all runs are on cannot be written to.
        """
        self._failures |= refused
        self._note_failures()
        waiting, active = deque(run for run in runs if run.label not in refused), dict[Future[str], Planned]()
        finished = 0
        with ThreadPoolExecutor(self._hub.most_runs, thread_name_prefix="run") as threads:
            while active or (waiting and not self._stopped()):
                while waiting and not self._stopped() and self._has_room(list(active.values())):
                    run = waiting.popleft()
                    self._view.started(run)
                    active[threads.submit(self._carry_out, run)] = run
                if self._interrupted():  # no run waits for a result any more; some may still be starting
                    self._hub.close()
                done, _ = wait(active, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    finished += self._take(active.pop(future), future)
        if self._hub.error is not None and not self._interrupted():
            raise self._hub.error
        if self._fault is not None:
            raise self._fault
        return SuiteOutcome(finished, self._failures, len(runs) - finished - len(self._failures))

    def _stopped(self) -> bool:
        return self._interrupted() or self._hub.error is not None or self._fault is not None

    def _has_room(self, active: Sequence[Planned]) -> bool:
        """Whether another run may begin: with `at_once: auto`, when it would find actors idle."""
        if self._suite.at_once != "auto":
            return len(active) < min(self._suite.at_once, self._hub.most_runs)
        passes = sum(most_passes(run.config) for run in active)
        return not active or (len(active) < self._hub.most_runs and self._hub.has_room(passes))

    def _take(self, run: Planned, future: Future[str]) -> bool:
        """Note how a run ended; whether it is finished."""
        error = future.exception()
        if error is None:
            self._alike = []
            self._view.ended(run, future.result())
            return True
        if self._stopped():
            self._view.ended(run, "stopped")
            return False
        if not isinstance(error, InputError | PoolError):
            _log.error("%s", run.label, exc_info=error)
        text = " ".join(str(error).split()) or type(error).__name__
        self._failures[run.label] = text
        self._note_failures()
        self._view.ended(run, f"failed: {text}")
        self._fault = error if isinstance(error, OutputError) else self._of_all(run, text)
        return False

    def _note_failures(self) -> None:
        write_facts(self._folder, replace(read_facts(self._folder), failures=self._failures))

    def _of_all(self, run: Planned, text: str) -> PoolError | None:
        """The fault, if the latest runs failed for the same reason and neither a task nor a method explains it."""
        self._alike = [(one, why) for one, why in self._alike if why == text] + [(run, text)]
        tasks, methods = ({getattr(one, of) for one, _ in self._alike} for of in ("task", "method"))
        suite = self._suite
        spread = len(tasks) >= min(2, len(suite.tasks)) and len(methods) >= min(2, len(suite.methods))
        if len(self._alike) < ALIKE or not spread:
            return None
        return PoolError(f"{len(self._alike)} runs in a row failed for the same reason, so the others wait: {text}")

    def _carry_out(self, run: Planned) -> str:
        """Tune, or resume, then test the prompt on the targets; the result in words.

        Raises:
            InputError, PoolError: it cannot be done, or was stopped.
        """
        listen = self._make_listener(run.config, partial(self._view.event, run))
        if read_end(run.folder) is None:
            self._tune(run, listen)
        if run.targets:
            apply_to_targets(run, self._hub)
        end = read_end(run.folder)
        assert end is not None
        return accuracy_text(end)

    def _tune(self, run: Planned, listen: Listener) -> None:
        """Tune, or continue from the checkpoint.

        Raises:
            InputError, PoolError: the run did not finish.
        """
        if (run.folder / CHECKPOINT).is_file():
            result = resume(run.folder, run.config, self._open, self._interrupted, listen)
        else:
            shutil.rmtree(run.folder, ignore_errors=True)  # killed before any query was charged
            result = tune(run.config, self._open, self._interrupted, listen)
        if not result.outcome.finished:
            raise PoolError("; ".join(result.outcome.reasons.values()))

    def _open(self, config: Config) -> Pool:
        return split_if_asked(self._hub.channel(scorer_key(config)), config)
