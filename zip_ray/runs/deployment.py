"""The end of a run: one of its iterates is tested and becomes the tuned prompt."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from zip_ray.artifact.kept_readout import ReadoutCard
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, AnswerCard, PromptCard, TunedPrompt, deployed
from zip_ray.config.tree import Config
from zip_ray.pool.asking import Waiting, accuracy_on_test, ask
from zip_ray.pool.contract import Pool
from zip_ray.protocol.facts import ClipFacts, VlmFacts
from zip_ray.protocol.messages import Encoding, EncodingResult
from zip_ray.protocol.readout import Readout
from zip_ray.readout.evidence import Evidence
from zip_ray.runs.accuracy_plot import FILE_NAME as PLOT
from zip_ray.runs.accuracy_plot import draw_accuracy
from zip_ray.runs.beginning import Beginning
from zip_ray.runs.choosing import Classifier, choose_classifier
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import Record, each_event
from zip_ray.runs.folder import needing_room
from zip_ray.tuning.events import EndEvent, ReadoutEvent, StartEvent
from zip_ray.tuning.ledger import with_answered
from zip_ray.tuning.loop import Outcome
from zip_ray.tuning.state import RunState


@dataclass(frozen=True)
class OpenRun:
    """A run with its open pool, and the facts found at its opening."""

    folder: Path
    config: Config
    pool: Pool
    begun: Beginning
    start: StartEvent
    """The first event of its record."""


@dataclass(frozen=True)
class Deployment:
    """The outcome of a run."""

    outcome: Outcome
    """With the queries of the readout in its account."""
    accuracies: dict[str, float] = field(default_factory=dict)
    """Test accuracies by name; none for a run that was cut off."""
    evidence: Evidence | None = None
    """Evidence for it on the validation images, compared with the start."""


def deploy(run: OpenRun, outcome: Outcome, record: Record, meanwhile: Waiting) -> Deployment:
    """Write the tuned prompt, the end of the record and the picture.

    Args:
        run: the run.
        outcome: how its tuning ended.
        record: the run's.
        meanwhile: called at intervals during the test, which may take long; an exception in it ends the test.

    Raises:
        OutputError: the run folder cannot be written to.
        PoolError: no scorer is left.
    """
    state = outcome.state

    def asking(queries: int) -> None:
        """Record the queries before they are issued: a run interrupted here repeats them on resume, as wasted ones."""
        charged = state.account.charged + queries
        record.append(ReadoutEvent(step=state.optimizer.steps, queries=charged, seconds=state.seconds))

    chosen = choose_classifier(run.pool, run.config, run.begun, state, meanwhile, asking)
    account = with_answered(state.account, chosen.queries)
    outcome = replace(outcome, state=replace(outcome.state, account=account))
    accuracies = {**run.start.zero_shot.test, **_tested(run, chosen, meanwhile)}
    encoding = ask(run.pool, Encoding(chosen.w, run.begun.template, chosen.readout), EncodingResult, meanwhile)
    card = _card(run, outcome.state, chosen, accuracies, encoding)
    drawn, features = run.begun.space.tensors(), encoding.text_features
    prompt = TunedPrompt(card, encoding.prompt, features, chosen.w, drawn, chosen.readout, encoding.head)
    title = f"{run.config.task.name}: {run.config.optimizer.method}, seed {run.config.seed}"
    with needing_room(run.folder, run.config):
        prompt.save(run.folder)
        record.append(_end(run, outcome, chosen, accuracies))
        draw_accuracy(run.folder / PLOT, each_event(run.folder / RECORD), title, accuracies)
    return Deployment(outcome, accuracies, chosen.evidence)


def _tested(run: OpenRun, chosen: Classifier, meanwhile: Waiting) -> dict[str, float]:
    """Test accuracy of the classifier, and of its prompt alone where it has a readout."""

    def tested(readout: Readout | None) -> float:
        images, start = run.begun.facts.images["test"], run.begun.template
        return accuracy_on_test(run.pool, chosen.w, images, meanwhile, start, readout)

    if chosen.readout is None:
        return {TUNED: tested(None)}
    return {TUNED: tested(None), READ_OUT: tested(chosen.readout)}


def _end(run: OpenRun, outcome: Outcome, chosen: Classifier, accuracies: dict[str, float]) -> EndEvent:
    state = outcome.state
    accuracy = deployed(accuracies)
    return EndEvent(
        step=state.optimizer.steps,
        queries=state.account.charged,
        seconds=state.seconds,
        reasons=outcome.reasons,
        deployed_step=chosen.step,
        test_accuracy=accuracy,
        zero_shot_accuracy=accuracies[PLAIN_TEMPLATE],
        below_zero_shot=accuracy < accuracies[PLAIN_TEMPLATE],
        account=state.account,
        dropped=state.dropped_results,
        left_over=_left_over(run, state, state.account.charged - run.begun.queries - chosen.queries),
        readout=run.config.readout,
        prompt_alone_accuracy=accuracies[TUNED] if chosen.readout else None,
        evidence=chosen.evidence,
    )


def _left_over(run: OpenRun, state: RunState, charged: int) -> int:
    """Answers that were neither used nor dropped, of so many queries; in rounds there are none."""
    if run.config.in_rounds:
        return 0
    optimizer = run.config.optimizer
    used = state.optimizer.steps * optimizer.asks_per_step
    answers = charged * optimizer.asks_per_step // optimizer.queries_per_step
    return max(0, answers - used - state.dropped_results)


def _of_clip(facts: ClipFacts) -> dict[str, Any]:
    """What classifying images needs; the paths of local models are made absolute."""
    kind, colon, place = facts.model.partition(":")
    model = f"{kind}:{Path(place).absolute()}" if colon and kind == "local-dir" else facts.model
    file = Path(facts.pretrained or "")
    pretrained = str(file.absolute()) if facts.pretrained and file.is_file() else facts.pretrained
    return {
        "model": model,
        "pretrained": pretrained,
        "preprocess": facts.preprocess,
        "logit_scale": facts.logit_scale,
    }


def _of_vlm(facts: VlmFacts) -> dict[str, Any]:
    """What is needed to ask a generative model."""
    answer = AnswerCard(scoring=facts.scoring, before=facts.before, question=facts.question, answers=facts.answers)
    return {"model": facts.model, "answer": answer}


def _card(
    run: OpenRun, state: RunState, chosen: Classifier, accuracies: dict[str, float], encoding: EncodingResult
) -> PromptCard:
    facts, config, visual = run.begun.facts, run.config, encoding.prompt.visual
    readout = None
    if chosen.readout is not None:
        images, spent = facts.images["train"], run.begun.queries + chosen.queries
        readout = ReadoutCard.of(chosen.readout, config.readout, images, spent)
    validation = {"validation": state.accuracy} if np.isfinite(state.accuracy) else {}
    return PromptCard(
        task=config.task.name,
        classnames=facts.classnames,
        template=facts.template,
        suffix=facts.suffix,
        visual=visual.kind if visual else None,
        encoder=visual.encoder if visual else "",
        scorer=config.model.scorer if facts.vlm is None else "vlm",  # a served model is used from its own files
        **({} if facts.clip is None else _of_clip(facts.clip)),
        **({} if facts.vlm is None else _of_vlm(facts.vlm)),
        weights_digest=facts.weights_digest,
        method=config.optimizer.method,
        seed=config.seed,
        prompt=config.prompt.model_dump(mode="json"),
        deployed=config.validation.deploy,
        step=chosen.step,
        queries=state.account.charged,
        seconds=state.seconds,
        readout=readout,
        accuracies={f"test/{name}": value for name, value in accuracies.items()} | validation,
    )
