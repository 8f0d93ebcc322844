"""Carrying out a suite: which runs go on at a time, what is left of each on disk, and where to go on after a stop.

A run that is finished is left alone, one that was cut off goes on from its checkpoint, one that failed is tried again.
"""

import json
import logging
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED, TunedPrompt
from zip_ray.compare.plan import Planned, plan
from zip_ray.compare.report.write import write_report
from zip_ray.compare.results import FACTS, SUITE, read_applied, read_facts, read_run, write_applied
from zip_ray.compare.revision import revision
from zip_ray.compare.suite import Suite, dump
from zip_ray.compare.suite_view import SuiteView
from zip_ray.config.budget import BudgetConfig
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.threads import with_threads
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.dispatcher import PREFETCH
from zip_ray.pool.multi_scorer import RUNS_AT_ONCE
from zip_ray.pool.shared import PoolHub
from zip_ray.pool.splitting import split_if_asked
from zip_ray.pool.uncharged import accuracy_on_test
from zip_ray.protocol.facts import Prompt
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import each_event, read_record
from zip_ray.runs.folder import CONFIG, locked
from zip_ray.runs.lifecycle import Listener, resume, tune
from zip_ray.runs.mlflow_mirror import close_parent, open_parent
from zip_ray.runs.opening import read_start
from zip_ray.runs.progress import accuracy_text
from zip_ray.runs.resume_rules import require_same, started_with
from zip_ray.tuning.events import EndEvent

POLL_SECONDS = 0.5
"""Between two looks at signals and at actors that are free."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuiteOutcome:
    """How a suite ended."""

    finished: int
    failures: dict[str, str]
    """By label of the run: why it did not come to its end, or was not tested on all targets."""
    left: int
    """Runs that were stopped, or not begun."""


def prepare(folder: Path, suite: Suite, runs: Sequence[Planned]) -> list[Planned]:
    """See that the suite's folder is this suite's, and write down what it is; the runs that are still to be done.

    Raises:
        InputError: the folder is another suite's or a run's, or a run in it was started with another config.
    """
    if (folder / CONFIG).is_file():
        raise InputError(f"output: '{folder}' is the folder of a run: choose another")
    runs = [_with_threads(run) for run in runs]
    write_whole(folder / SUITE, dump(suite))
    facts = read_facts(folder)
    now = revision()
    revisions = facts["revisions"] if now in facts["revisions"] else [*facts["revisions"], now]
    _write_facts(folder, revisions, {})
    return [run for run in runs if not ((one := read_run(run)) and one.whole)]


def _with_threads(run: Planned) -> Planned:
    """The run with the threads that it was started with, or will be; see that all else is as it was started, too.

    Raises:
        InputError: it was started with another config.
    """
    record = run.folder / RECORD
    if not record.is_file() or next(each_event(record), None) is None:
        return replace(run, config=with_threads(run.config))
    start = read_start(run.folder)
    before, execution = started_with(run.folder, start), run.config.execution
    if execution.threads == "auto":
        execution = execution.model_copy(update={"threads": before.execution.threads})
    run = replace(run, config=run.config.model_copy(update={"execution": execution}))
    require_same(run.folder, start, run.config)
    _require_same_budget(run, before.budget)
    return run


def _require_same_budget(run: Planned, before: BudgetConfig) -> None:
    """A single run may go on with more budget, but the runs of a suite are compared at one."""
    for field, value in run.config.budget:
        if value != (was := getattr(before, field)):
            raise InputError(
                f"budget.{field}: is {value}, {run.folder} was started with {was}, and runs are compared at one "
                "budget: choose another folder (--output)"
            )


def run_suite(
    suite: Suite,
    folder: Path,
    open_pool: Callable[[Config, list[str]], Pool],
    interrupted: Callable[[], bool],
    listen: Callable[[Config, Listener], Listener],
) -> SuiteOutcome:
    """Carry out what is left of a suite.

    Args:
        suite: what is compared.
        folder: of the suite.
        open_pool: makes the one pool, given a config for the cluster and the keys of the runs to come.
        interrupted: whether the suite has been asked to stop.
        listen: makes what hears the events of a run besides its folder, given the view that is one of those.

    Raises:
        InputError: the suite, its folder or the cluster cannot be used.
        PoolError: no scorer is left.
    """
    runs = plan(suite, folder)
    tracking = runs[0].config.tracking
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output: '{folder}' cannot be made ({error.strerror}): choose another") from error
    with locked(folder):
        left = prepare(folder, suite, runs)
        parent = open_parent(folder, tracking) if left and tracking.enabled else None
        report: list[Path] = []
        stopped = True
        try:
            outcome = _run_left(suite, folder, [_as_part(run, parent) for run in left], open_pool, interrupted, listen)
            stopped = outcome.left > 0
            if not stopped and any(read_run(run) for run in runs):
                report = [*write_report(folder), *sorted(folder.glob("*.png"))]
        finally:
            if parent is not None:
                close_parent(parent, tracking, report, stopped)
    return outcome


def _run_left(
    suite: Suite,
    folder: Path,
    left: list[Planned],
    open_pool: Callable[[Config, list[str]], Pool],
    interrupted: Callable[[], bool],
    listen: Callable[[Config, Listener], Listener],
) -> SuiteOutcome:
    if not left:
        return SuiteOutcome(0, {}, 0)
    keys = list(dict.fromkeys(scorer_key(run.config) for run in left))
    with closing(open_pool(left[0].config, keys)) as pool, closing(PoolHub(pool)) as hub, SuiteView(len(left)) as view:
        return Runner(folder, suite, hub, interrupted, listen, view).go(left)


def _as_part(run: Planned, parent: str | None) -> Planned:
    """The run as a part of the suite's own MLflow run, under its label there."""
    tracking = run.config.tracking.model_copy(update={"name": run.label, "parent": parent})
    return replace(run, config=run.config.model_copy(update={"tracking": tracking}))


class Runner:
    """The runs of a suite over a hub."""

    def __init__(
        self,
        folder: Path,
        suite: Suite,
        hub: PoolHub,
        interrupted: Callable[[], bool],
        listen: Callable[[Config, Listener], Listener],
        view: SuiteView,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: the suite's, prepared.
            suite: what it is.
            hub: answers all runs.
            interrupted: whether the suite has been asked to stop; the runs look too.
            listen: makes what hears the events of a run besides its folder, given the view that is one of those.
            view: shows how it goes.
        """
        self._folder, self._suite, self._hub = folder, suite, hub
        self._interrupted, self._listen, self._view = interrupted, listen, view
        self._failures: dict[str, str] = {}

    def go(self, runs: Sequence[Planned]) -> SuiteOutcome:
        """Carry out these runs; a run that fails does not end the others.

        Raises:
            InputError, PoolError: no scorer could be had at all.
        """
        waiting, active = deque(runs), dict[Future[str], Planned]()
        finished = 0
        with ThreadPoolExecutor(RUNS_AT_ONCE, thread_name_prefix="run") as threads:
            while active or (waiting and not self._stopped()):
                while waiting and not self._stopped() and self._has_room(list(active.values())):
                    run = waiting.popleft()
                    self._view.started(run)
                    active[threads.submit(self._carry_out, run)] = run
                if self._interrupted():  # nobody waits for an answer any more, say the runs that are starting up
                    self._hub.close()
                done, _ = wait(active, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    finished += self._take(active.pop(future), future)
        if self._hub.error is not None and not self._interrupted():
            raise self._hub.error
        return SuiteOutcome(finished, self._failures, len(runs) - finished - len(self._failures))

    def _stopped(self) -> bool:
        return self._interrupted() or self._hub.error is not None

    def _has_room(self, active: Sequence[Planned]) -> bool:
        """Whether one run more would find actors idle."""
        if self._suite.at_once != "auto":
            return len(active) < min(self._suite.at_once, RUNS_AT_ONCE)
        ready = sum(member.state == "ready" for member in self._hub.members())
        out = sum(_passes_out(run.config) for run in active)
        return not active or (len(active) < RUNS_AT_ONCE and out < PREFETCH * ready)

    def _take(self, run: Planned, future: Future[str]) -> bool:
        """Note how a run ended; whether it is finished."""
        error = future.exception()
        if error is None:
            self._view.ended(run, future.result())
            return True
        if self._stopped():
            self._view.ended(run, "stopped")
            return False
        if not isinstance(error, InputError | PoolError):
            _log.error("%s", run.label, exc_info=error)
        text = " ".join(str(error).split()) or type(error).__name__
        self._failures[run.label] = text
        _write_facts(self._folder, read_facts(self._folder)["revisions"], self._failures)
        self._view.ended(run, f"failed: {text}")
        return False

    def _carry_out(self, run: Planned) -> str:
        """Tune, or go on tuning, then try the prompt on the targets; what came of it, in words.

        Raises:
            InputError, PoolError: it cannot be done, or was stopped.
        """
        hear = self._listen(run.config, partial(self._view.event, run))
        if _end(run.folder) is None:
            if (run.folder / CHECKPOINT).is_file():
                result = resume(run.folder, run.config, self._open, self._interrupted, hear)
            else:
                shutil.rmtree(run.folder, ignore_errors=True)  # killed before anything was paid for
                result = tune(run.config, self._open, self._interrupted, hear)
            if not result.outcome.finished:
                raise PoolError("; ".join(result.outcome.reasons.values()))
        if run.targets:
            self._apply(run)
        end = _end(run.folder)
        assert end is not None
        return accuracy_text(end)

    def _apply(self, run: Planned) -> None:
        """Test the tuned prompt on every target that it has not been tested on.

        Raises:
            PoolError: some could not be tested; the others were.
        """
        prompt = TunedPrompt.load(run.folder).prompt
        applied, faults = read_applied(run), []
        for label in [label for label in run.targets if label not in applied]:
            try:
                applied[label] = self._test(prompt, run.targets[label])
                write_applied(run, applied)
            except (InputError, PoolError) as error:
                faults.append(f"{label}: {error}")
        if faults:
            raise PoolError(f"tuned, but not tested on {'; '.join(faults)}")

    def _test(self, prompt: Prompt, target: Config) -> dict[str, float]:
        """Accuracy on a target, and that of the target's plain template beside it."""
        with closing(self._hub.channel(scorer_key(target))) as pool:
            facts = pool.facts()
            tuned, plain = (accuracy_on_test(pool, one, facts.images["test"]) for one in (prompt, facts.template))
        return {TUNED: tuned, PLAIN_TEMPLATE: plain}

    def _open(self, config: Config) -> Pool:
        return split_if_asked(self._hub.channel(scorer_key(config)), config)


def _passes_out(config: Config) -> int:
    """Passes that a run has in flight at once; at most, where that is left to the run."""
    asks, together = config.asks_in_flight, config.execution.pairs_per_pass
    return asks if together == "auto" else -(-asks // together)


def _end(folder: Path) -> EndEvent | None:
    """The last event of a run; None while it has not come to its end."""
    events = read_record(folder / RECORD) if (folder / RECORD).is_file() else []
    return events[-1] if events and isinstance(events[-1], EndEvent) else None


def _write_facts(folder: Path, revisions: list[str], failures: dict[str, str]) -> None:
    facts = {"schema_version": 1, "revisions": revisions, "failures": failures}
    write_whole(folder / FACTS, (json.dumps(facts, indent=2) + "\n").encode())
