"""The end of a run: one of its iterates is tested and becomes the tuned prompt."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED, PromptCard, TunedPrompt
from zip_ray.config.tree import Config
from zip_ray.pool.asking import accuracy_on_test, ask
from zip_ray.pool.contract import Pool
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Encoding, EncodingResult
from zip_ray.runs.accuracy_plot import FILE_NAME as PLOT
from zip_ray.runs.accuracy_plot import draw_accuracy
from zip_ray.runs.beginning import Beginning
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import Record, each_event
from zip_ray.runs.folder import needing_room
from zip_ray.tuning.events import EndEvent, StartEvent
from zip_ray.tuning.loop import Outcome
from zip_ray.tuning.state import RunState


@dataclass(frozen=True)
class OpenRun:
    """A run whose pool is open, and what was found when it was opened."""

    folder: Path
    config: Config
    pool: Pool
    begun: Beginning
    start: StartEvent
    """The first event of its record."""


def deploy(run: OpenRun, outcome: Outcome, record: Record, meanwhile: Callable[[], None]) -> dict[str, float]:
    """Write the tuned prompt, the end of the record and the picture; the test accuracies, by name.

    Args:
        run: the run.
        outcome: how its tuning ended.
        record: the run's.
        meanwhile: is called now and then during the test, which may take long; what it raises ends the test.

    Raises:
        OutputError: the run folder cannot be written to.
        PoolError: no scorer is left.
    """
    state = outcome.state
    w, step = _chosen(run.config, state)
    tuned = accuracy_on_test(run.pool, w, run.begun.facts.images["test"], meanwhile, run.begun.template)
    encoding = ask(run.pool, Encoding(w, run.begun.template), EncodingResult, meanwhile)
    accuracies = {**run.start.zero_shot.test, TUNED: tuned}
    card = _card(run, state, step, accuracies, encoding)
    prompt = TunedPrompt(card, encoding.prompt, encoding.text_features, w, run.begun.space.tensors())
    title = f"{run.config.task.name}: {run.config.optimizer.method}, seed {run.config.seed}"
    with needing_room(run.folder, run.config):
        prompt.save(run.folder)
        record.append(_end(run.config, outcome, step, accuracies))
        draw_accuracy(run.folder / PLOT, each_event(run.folder / RECORD), title, accuracies)
    return accuracies


def _chosen(config: Config, state: RunState) -> tuple[Float64, int]:
    """Parameters and step of the iterate that is deployed (see `validation.deploy`)."""
    if config.validation.deploy != "last" and state.best is not None:
        return state.best.w, state.best.step
    return state.optimizer.w, state.optimizer.steps


def _end(config: Config, outcome: Outcome, step: int, accuracies: dict[str, float]) -> EndEvent:
    state, optimizer = outcome.state, config.optimizer
    answers = state.account.charged * optimizer.asks_per_step // optimizer.queries_per_step
    return EndEvent(
        step=state.optimizer.steps,
        queries=state.account.charged,
        seconds=state.seconds,
        reasons=outcome.reasons,
        deployed_step=step,
        test_accuracy=accuracies[TUNED],
        zero_shot_accuracy=accuracies[PLAIN_TEMPLATE],
        below_zero_shot=accuracies[TUNED] < accuracies[PLAIN_TEMPLATE],
        account=state.account,
        dropped=state.dropped_results,
        left_over=answers - state.optimizer.steps * optimizer.asks_per_step - state.dropped_results,
    )


def _card(
    run: OpenRun, state: RunState, step: int, accuracies: dict[str, float], encoding: EncodingResult
) -> PromptCard:
    facts, config, visual = run.begun.facts, run.config, encoding.prompt.visual
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
