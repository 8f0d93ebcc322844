"""A run from its config to its artifacts: it is opened and tuned, and one of its iterates is deployed.

Its folder gets config.yaml first (a resume writes it again), metrics.jsonl when the zero-shot prompts have been tested,
checkpoint.safetensors while it runs, tuned_prompt.safetensors (+ .json) and accuracy.png at its end. Nothing is written
before model, task and pool have proved usable.
"""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from zip_ray.config.threads import with_threads
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.asking import silently
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.runs import next_command
from zip_ray.runs.beginning import begin, sized
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.checkpoint import CheckpointWriter, load_checkpoint, save_checkpoint
from zip_ray.runs.deployment import Deployment, OpenRun, deploy
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import Record, cut_record, read_start
from zip_ray.runs.folder import create, locked, needing_room, removed_on_error, write_config
from zip_ray.runs.mlflow_mirror import Tracker
from zip_ray.runs.opening import facts_of, pool_watch, start_event
from zip_ray.runs.query_plan import plan_queries
from zip_ray.runs.remote_copy import RemoteCopy, require_free
from zip_ray.runs.resume_rules import (
    require_room,
    require_same,
    require_same_images,
    require_same_schedule,
    require_whole_steps,
    started_with,
    with_round_of,
)
from zip_ray.runs.run_result import RunResult
from zip_ray.runs.survey import read_survey
from zip_ray.runs.zero_shot import evaluate_before
from zip_ray.tuning.events import Event
from zip_ray.tuning.ledger import Account, settle, with_answered
from zip_ray.tuning.loop import Interrupted, Outcome, Tuning, cut_off_by
from zip_ray.tuning.state import RunState

TRACKER_SECONDS = 20.0
"""Time for MLflow to receive the rest when a run ends."""
REMOTE_SECONDS = 60.0
"""Time for the copy of the run folder to be completed then."""

OpenPool = Callable[[Config], Pool]
Listener = Callable[[Event], None]


def tune(
    config: Config, open_pool: OpenPool, interrupted: Callable[[], bool], listen: Listener = lambda _: None
) -> RunResult:
    """Start a run.

    Args:
        config: the run.
        open_pool: makes its pool.
        interrupted: whether the run has been asked to stop.
        listen: receives each event too; must not wait.

    Raises:
        InputError: the run folder exists, or model, task or cluster cannot be used as configured.
        OutputError: the run folder cannot be written to.
        PoolError: no scorer started.
    """
    config = with_threads(config)
    task = re.sub(r"[^\w.-]+", "-", config.task.name)  # coop:dtd, huggingface:ORG/NAME
    folder = config.output.dir or Path("runs") / f"{task}-{datetime.now():%Y%m%d-%H%M%S}"
    if config.output.dir is not None and folder.exists():
        raise InputError(
            f"output.dir: '{folder}' exists: choose another, or continue it: {next_command.resume(folder)}"
        )
    if config.output.remote:
        require_free(config.output.remote)
    with closing(open_pool(config)) as pool:
        watch = pool_watch(pool, listen)
        facts = facts_of(pool, watch)
        plan = plan_queries(config, facts)
        config = sized(config, plan)
        folder = create(folder, config)
        with locked(folder):
            with removed_on_error(folder):
                begun = begin(pool, config, facts, plan, None, watch.wait)
                if begun.survey is not None:
                    begun.survey.save(folder)
                start = start_event(config, begun, evaluate_before(pool, config, facts, watch))
            account = with_answered(Account(), begun.queries)
            state = RunState(OptimizerState(begun.space.initial()), account=account)
            return _carry_out(OpenRun(folder, config, pool, begun, start), state, interrupted, listen)


def resume(
    folder: Path,
    config: Config,
    open_pool: OpenPool,
    interrupted: Callable[[], bool],
    listen: Listener = lambda _: None,
) -> RunResult:
    """Continue a run from its last checkpoint; synchronously, its end is bit for bit that of an undisturbed run.

    Args:
        folder: the run folder.
        config: its config; see `resume_rules` for the fields that may differ from the start.
        open_pool: makes the pool.
        interrupted: whether the run has been asked to stop.
        listen: receives each event too; must not wait.

    Raises:
        InputError: no run, a damaged one, one in use, another model, or a config that changes the trajectory.
        OutputError: the run folder cannot be written to.
        PoolError: no scorer started.
    """
    with locked(folder):
        state = load_checkpoint(folder / CHECKPOINT)
        start = read_start(folder)
        config = with_round_of(config, started_with(folder, start))
        require_same(folder, start, config)
        require_same_schedule(folder, start, config)
        require_room(folder, state, config)
        require_whole_steps(folder, state, config)
        with closing(open_pool(config)) as pool:
            facts = facts_of(pool, pool_watch(pool, listen))
            if facts.weights_digest != start.weights_digest:
                raise InputError(f"model: has other weights than when {folder} was started: restore them")
            require_same_images(folder, start, facts)
            surveyed = None if start.template is None else read_survey(folder)
            plan = plan_queries(started_with(folder, start), facts)
            begun = begin(pool, config, facts, plan, surveyed, silently)
            with needing_room(folder, config):
                state = _cut_back(folder, state)
                write_config(folder, config)  # a later resume, and `status`, use its budget
            return _carry_out(OpenRun(folder, config, pool, begun, start), state, interrupted, listen)


def _cut_back(folder: Path, state: RunState) -> RunState:
    """Cut the record back to a checkpoint; the checkpoint, saved again, counts the undone queries as wasted.

    Raises:
        OSError: the files cannot be written.
    """
    dropped = cut_record(folder / RECORD, state.optimizer.steps, state.validated_step)
    answered = max((event.queries for event in dropped), default=0) - state.account.charged
    state = replace(state, account=settle(state.account, answered))
    save_checkpoint(folder / CHECKPOINT, state)
    return state


def _carry_out(run: OpenRun, state: RunState, interrupted: Callable[[], bool], listen: Listener) -> RunResult:
    """Tune from a state to the end, and deploy; record, checkpoints and copies are kept meanwhile."""
    config, folder = run.config, run.folder
    record, checkpoints = Record(folder / RECORD), CheckpointWriter(folder / CHECKPOINT)
    tracker = Tracker(folder, config.tracking) if config.tracking.enabled else None
    remote = RemoteCopy(folder, config.output.remote) if config.output.remote else None
    deployed: Deployment | None = None
    tracked = False

    def emit(event: Event) -> None:
        record.append(event)
        listen(event)

    try:
        if (folder / RECORD).stat().st_size == 0:
            record.append(run.start)
            checkpoints.write(state)
        if tracker:
            tracker.start()
        if remote:
            remote.start()
        outcome = Tuning(
            config,
            run.pool,
            state,
            emit,
            checkpoints.write,
            interrupted,
            problem=run.begun.problem(config) if config.optimizer.wants_scores else None,
            start=run.begun.template,
            reserved=run.begun.plan.reserved,
        ).run()
        if outcome.finished:
            deployed = _finish(run, outcome, record, interrupted, listen)
    finally:
        checkpoints.close()
        record.close()
        if remote:
            remote.close(REMOTE_SECONDS)
        tracked = tracker.close(TRACKER_SECONDS) if tracker else False
    deployed = deployed or Deployment(outcome)
    run_id = tracker.run_id if tracker else ""
    return RunResult(folder, run.start, deployed.outcome, deployed.accuracies, deployed.evidence, tracked, run_id)


def _finish(
    run: OpenRun, outcome: Outcome, record: Record, interrupted: Callable[[], bool], listen: Listener
) -> Deployment:
    """Deploy an iterate; if that is interrupted, return no accuracies and leave it to a resume."""
    watch = pool_watch(run.pool, listen)

    def meanwhile(done: int, total: int) -> None:
        if interrupted():
            raise Interrupted
        watch.wait(done, total)

    try:
        return deploy(run, outcome, record, meanwhile)
    except (Interrupted, PoolError) as error:
        return Deployment(Outcome(outcome.state, cut_off_by(error)))
