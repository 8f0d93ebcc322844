"""A run from its config to its artifacts: the run folder, and what stands in it at each moment.

config.yaml (what it last went on with) comes first, metrics.jsonl when the zero-shot prompts have been tested,
checkpoint.safetensors while it goes on, tuned_prompt.safetensors (+ .json) and accuracy.png at its end. Nothing is
written before model, task and pool have shown that they can be used.
"""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED, PromptCard, TunedPrompt
from zip_ray.config.threads import with_threads
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.uncharged import accuracy_on_test, ask
from zip_ray.prompts import PromptSpace, make_space
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import Facts, VisualPrompt
from zip_ray.protocol.messages import Encoding, EncodingResult
from zip_ray.runs import accuracy_plot as report
from zip_ray.runs import next_command
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.checkpoint import CheckpointWriter, load_checkpoint, save_checkpoint
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import Record, cut_record, each_event, read_start
from zip_ray.runs.folder import create, locked, needing_room, removed_on_error, write_config
from zip_ray.runs.mlflow_mirror import Tracker
from zip_ray.runs.opening import facts_of, start_event, watch_of
from zip_ray.runs.remote_copy import RemoteCopy, require_free
from zip_ray.runs.resume_rules import require_same, require_same_schedule
from zip_ray.runs.zero_shot import evaluate_templates
from zip_ray.tuning.events import EndEvent, Event, StartEvent
from zip_ray.tuning.ledger import settle
from zip_ray.tuning.loop import Interrupted, Outcome, Tuning, cut_off_by
from zip_ray.tuning.state import RunState

TRACKER_SECONDS = 20.0
"""What MLflow gets to take the rest when a run ends."""
REMOTE_SECONDS = 60.0
"""What the copy of the run folder gets to become whole then."""

OpenPool = Callable[[Config], Pool]
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class RunResult:
    """What a person wants to know when a run has ended."""

    folder: Path
    outcome: Outcome
    accuracies: dict[str, float]
    """Test accuracy, by what it is of; empty for a run that was cut off."""
    templates: dict[str, str]
    """The hand-written templates among them."""
    tracked: bool
    """Whether MLflow has everything."""
    run_id: str


def tune(
    config: Config, open_pool: OpenPool, interrupted: Callable[[], bool], listen: Listener = lambda _: None
) -> RunResult:
    """Start a run.

    Args:
        config: the run.
        open_pool: makes its pool.
        interrupted: whether the run has been asked to stop.
        listen: hears each event of the record too; must not wait.

    Raises:
        InputError: the run folder exists, or model, task or cluster cannot be used as configured.
        OutputError: the run folder takes no more.
        PoolError: no scorer came up.
    """
    config = with_threads(config)
    task = re.sub(r"[^\w.-]+", "-", config.task.name)  # coop:dtd, huggingface:ORG/NAME
    folder = config.output.dir or Path("runs") / f"{task}-{datetime.now():%Y%m%d-%H%M%S}"
    if folder.exists():
        raise InputError(
            f"output.dir: '{folder}' exists: choose another, or continue it: {next_command.resume(folder)}"
        )
    if config.output.remote:
        require_free(config.output.remote)
    with closing(open_pool(config)) as pool:
        watch = watch_of(pool, listen)
        facts = facts_of(pool, watch)
        space = make_space(config.prompt, facts.shape, config.seed)
        create(folder, config)
        state = RunState(OptimizerState(space.initial()))
        with locked(folder):
            with removed_on_error(folder):
                start = start_event(config, facts, space, evaluate_templates(pool, facts, watch))
            return _Run(folder, config, pool, facts, space, start).go(state, interrupted, listen)


def resume(
    folder: Path,
    config: Config,
    open_pool: OpenPool,
    interrupted: Callable[[], bool],
    listen: Listener = lambda _: None,
) -> RunResult:
    """Go on with a run from its last checkpoint; the end is bit for bit that of an undisturbed run.

    Args:
        folder: the run folder.
        config: its config; budget, cluster and tracking may differ from what was started.
        open_pool: makes the pool.
        interrupted: whether the run has been asked to stop.
        listen: hears each event of the record too; must not wait.

    Raises:
        InputError: no run, a damaged one, one in use, another model, or a config that changes the trajectory.
        OutputError: the run folder takes no more.
        PoolError: no scorer came up.
    """
    with locked(folder):
        state = load_checkpoint(folder / CHECKPOINT)
        start = read_start(folder)
        require_same(folder, start, config)
        require_same_schedule(folder, start, config)
        with closing(open_pool(config)) as pool:
            facts = facts_of(pool, watch_of(pool, listen))
            if facts.weights_digest != start.weights_digest:
                raise InputError(
                    f"model.name: '{facts.model}' has other weights than when {folder} was started: restore them"
                )
            space = make_space(config.prompt, facts.shape, config.seed)
            with needing_room(folder, config):
                state = _cut_back(folder, state)
                write_config(folder, config)  # a later resume, and `status`, have its budget
            return _Run(folder, config, pool, facts, space, start).go(state, interrupted, listen)


def _cut_back(folder: Path, state: RunState) -> RunState:
    """Cut the record back to a checkpoint; the checkpoint, saved again, keeps what is undone as wasted.

    Raises:
        OSError: the disk refuses.
    """
    dropped = cut_record(folder / RECORD, state.optimizer.steps, state.validated_step)
    answered = max((event.queries for event in dropped), default=0) - state.account.charged
    state = replace(state, account=settle(state.account, answered))
    save_checkpoint(folder / CHECKPOINT, state)
    return state


class _Run:
    """The parts of a run, put together."""

    def __init__(
        self, folder: Path, config: Config, pool: Pool, facts: Facts, space: PromptSpace, start: StartEvent
    ) -> None:
        self._folder, self._config, self._pool = folder, config, pool
        self._facts, self._space, self._start = facts, space, start

    def go(self, state: RunState, interrupted: Callable[[], bool], listen: Listener) -> RunResult:
        config, folder = self._config, self._folder
        record, checkpoints = Record(folder / RECORD), CheckpointWriter(folder / CHECKPOINT)
        tracker = Tracker(folder, config.tracking) if config.tracking.enabled else None
        remote = RemoteCopy(folder, config.output.remote) if config.output.remote else None
        accuracies: dict[str, float] = {}
        tracked = False
        try:
            if (folder / RECORD).stat().st_size == 0:
                record.append(self._start)
                checkpoints.write(state)
            if tracker:
                tracker.start()
            if remote:
                remote.start()

            def emit(event: Event) -> None:
                record.append(event)
                listen(event)

            outcome = Tuning(config, self._pool, state, emit, checkpoints.write, interrupted).run()
            if outcome.finished:
                outcome, accuracies = self._finish(outcome, record, interrupted, listen)
        finally:
            checkpoints.close()
            record.close()
            if remote:
                remote.close(REMOTE_SECONDS)
            tracked = tracker.close(TRACKER_SECONDS) if tracker else False
        templates = self._start.zero_shot.templates
        return RunResult(folder, outcome, accuracies, templates, tracked, tracker.run_id if tracker else "")

    def _finish(
        self, outcome: Outcome, record: Record, interrupted: Callable[[], bool], listen: Listener
    ) -> tuple[Outcome, dict[str, float]]:
        """Deploy an iterate, unless that is cut off: its test may take long, and is not paid for in queries."""
        watch = watch_of(self._pool, listen)

        def look() -> None:
            if interrupted():
                raise Interrupted
            watch.look()

        try:
            return outcome, self._deploy(outcome, record, look)
        except (Interrupted, PoolError) as error:
            return Outcome(outcome.state, cut_off_by(error)), {}

    def _deploy(self, outcome: Outcome, record: Record, look: Callable[[], None]) -> dict[str, float]:
        """The accuracies of an iterate, the tuned prompt, the end of the record, the picture."""
        w, step = self._deployed(outcome.state)
        tuned = accuracy_on_test(self._pool, w, self._facts.images["test"], look)
        encoding = ask(self._pool, Encoding(w), EncodingResult, look)
        accuracies = {**self._start.zero_shot.test, TUNED: tuned}
        plain = accuracies[PLAIN_TEMPLATE]
        card = self._card(outcome.state, step, accuracies, encoding.prompt.visual)
        prompt = TunedPrompt(card, encoding.prompt, encoding.text_features, w, self._space.tensors())
        state = outcome.state
        title = f"{self._config.task.name}: {self._config.optimizer.method}, seed {self._config.seed}"
        with needing_room(self._folder, self._config):
            prompt.save(self._folder)
            record.append(
                EndEvent(
                    step=state.optimizer.steps,
                    queries=state.account.charged,
                    seconds=state.seconds,
                    reasons=outcome.reasons,
                    deployed_step=step,
                    test_accuracy=tuned,
                    zero_shot_accuracy=plain,
                    below_zero_shot=tuned < plain,
                    account=state.account,
                    dropped=state.dropped_results,
                    left_over=self._left_over(state),
                )
            )
            report.draw_accuracy(self._folder / report.FILE_NAME, each_event(self._folder / RECORD), title, accuracies)
        return accuracies

    def _left_over(self, state: RunState) -> int:
        """Answers that were charged and neither dropped nor made part of a step: too few for one when the run ended."""
        optimizer = self._config.optimizer
        answers = state.account.charged * optimizer.asks_per_step // optimizer.queries_per_step
        return answers - state.optimizer.steps * optimizer.asks_per_step - state.dropped_results

    def _deployed(self, state: RunState) -> tuple[Float64, int]:
        if self._config.validation.deploy == "best" and state.best is not None:
            return state.best.w, state.best.step
        return state.optimizer.w, state.optimizer.steps

    def _card(
        self, state: RunState, step: int, accuracies: dict[str, float], visual: VisualPrompt | None
    ) -> PromptCard:
        facts, config = self._facts, self._config
        validation = {"validation": state.accuracy} if np.isfinite(state.accuracy) else {}
        return PromptCard(
            task=config.task.name,
            classnames=facts.classnames,
            template=facts.template,
            suffix=facts.suffix,
            visual=visual.kind if visual else None,
            encoder=visual.encoder if visual else "",
            model=facts.model,
            pretrained=facts.pretrained,
            weights_digest=facts.weights_digest,
            preprocess=facts.preprocess,
            logit_scale=facts.logit_scale,
            method=config.optimizer.method,
            seed=config.seed,
            prompt=config.prompt.model_dump(mode="json"),
            deployed=config.validation.deploy,
            step=step,
            queries=state.account.charged,
            seconds=state.seconds,
            accuracies={f"test/{name}": value for name, value in accuracies.items()} | validation,
        )
