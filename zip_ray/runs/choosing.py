"""The classifier that a run ends with: one of its iterates, and a readout where that is wanted.

With `readout: auto` it is the mean of two readouts, of the iterate and of the start, whose errors differ. If the
validation images do not support the result, the unchanged start is deployed. Test images are not used.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zip_ray.config.tree import Config
from zip_ray.pool.asking import Waiting, ask_all
from zip_ray.pool.contract import Pool
from zip_ray.protocol.arrays import Float32, Float64, Int64
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Query
from zip_ray.protocol.mini_batches import chunks
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.protocol.readout import Readout
from zip_ray.readout.evidence import Evidence, weigh
from zip_ray.readout.fitting import fit_readout
from zip_ray.readout.linear_map import LinearMap
from zip_ray.runs.beginning import Beginning
from zip_ray.runs.survey import training_scores
from zip_ray.tuning.state import RunState

FURTHER_DISTANCE = 3.0
"""Distance of the further prompts from the start, in units of `prompts.step_unit` per parameter: far enough to add
information, near enough to act as text on the model."""
CAUTION = 0.25
"""Multiple of the half-width of the 95% interval that a gain on the validation images must exceed to be no chance."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classifier:
    """The deployed classifier."""

    w: Float64
    step: int
    readout: Readout | None = None
    queries: int = 0
    """Charged for the scores that the readout is fitted to."""
    evidence: Evidence | None = None
    """Evidence for it on the validation images, compared with the start."""


@dataclass(frozen=True)
class _Scored:
    """Prompts with the scores of the training and the validation images, each of shape (images, classes)."""

    prompts: list[Float64 | Prompt | str]
    """The iterate first, then the start, then what else there is."""
    train: list[Float32]
    val: list[Float32]


def choose_classifier(
    pool: Pool,
    config: Config,
    begun: Beginning,
    state: RunState,
    meanwhile: Waiting,
    asking: Callable[[int], None],
) -> Classifier:
    """Choose an iterate as `validation.deploy` says, and fit the readout that the config asks for.

    Args:
        pool: processes the queries.
        config: of the run.
        begun: where the run began.
        state: where its tuning ended.
        meanwhile: called at intervals during a wait.
        asking: receives the number of queries that the readout needs, before they are issued.

    Raises:
        PoolError, InputError: as the pool does.
    """
    w, step = _iterate(config, state)
    if config.readout == "none":
        return Classifier(w, step)
    if begun.plan.reserved == 0:
        _log.warning("budget.queries: too few for the scores that a readout needs: the prompt is deployed without one")
        return Classifier(w, step)
    scored, queries = _score(pool, config, begun, w, meanwhile, asking)
    if not all(np.isfinite(one).all() for one in (*scored.train, *scored.val)):
        _log.warning("scores that are not finite: the prompt is deployed without a readout")
        return Classifier(w, step, queries=queries)
    val, labels = scored.val, begun.facts.val_labels
    judged = [(one, weigh(one.of(val), val[1], labels)) for one in _maps(config, scored, begun.facts.labels, step > 0)]
    chosen, evidence = min(judged, key=lambda one: one[1].loss)
    if config.validation.deploy != "last" and not evidence.gain > CAUTION * evidence.half_width:
        return Classifier(begun.space.initial(), 0, None, queries, weigh(val[1].astype(np.float64), val[1], labels))
    further = [one for one in scored.prompts[1:] if not isinstance(one, np.ndarray)]
    return Classifier(w, step, chosen.readout(further), queries, evidence)


def _iterate(config: Config, state: RunState) -> tuple[Float64, int]:
    """Parameters and step of the iterate that is deployed (see `validation.deploy`)."""
    if config.validation.deploy != "last" and state.best is not None:
        return state.best.w, state.best.step
    return state.optimizer.deployed, state.optimizer.steps


def _score(
    pool: Pool,
    config: Config,
    begun: Beginning,
    w: Float64,
    meanwhile: Waiting,
    asking: Callable[[int], None],
) -> tuple[_Scored, int]:
    """The scores of the iterate, of the templates that were surveyed, and of further prompts; queries charged now."""
    start, images, size = begun.template, begun.facts.images["train"], config.task.batch_size
    points = [w, *_around(config, begun)]
    if begun.survey is None:  # without a survey, the start has no scores yet
        points.insert(1, begun.space.initial())
    queries = chunks(images, size) * len(points)
    asking(queries)
    asks = [Query(index=k, step=0, version=0, w=point, batch=0, start=start) for k, point in enumerate(points)]
    found, _ = training_scores(pool, asks, images, size, meanwhile)
    templates = begun.surveyed
    surveyed = [begun.survey.of(one) for one in templates] if begun.survey is not None else []
    prompts: list[Float64 | Prompt | str] = [w, *templates, *(_prompt(begun, point) for point in points[1:])]
    evaluations = [
        Evaluation("val", one, start=start if isinstance(one, np.ndarray) else None, scores=True) for one in prompts
    ]
    answers = ask_all(pool, evaluations, EvaluationResult, meanwhile)
    val = [answer.scores for answer in answers if answer.scores is not None]
    scored = _Scored(prompts, [found[0], *surveyed, *found[1:]], val)
    return scored, queries


def _around(config: Config, begun: Beginning) -> list[Float64]:
    """Parameters of the further prompts: keyed random steps from the start."""
    space, unit = begun.space, begun.unit
    w = space.initial()
    return [
        w + FURTHER_DISTANCE * unit * generator(config.seed, Stream.FURTHER, k).standard_normal(w.size)
        for k in range(begun.plan.further)
    ]


def _prompt(begun: Beginning, w: Float64) -> Prompt:
    return replace(begun.space.prompt(w), suffix=begun.facts.suffix)


def _maps(config: Config, scored: _Scored, labels: Int64, moved: bool) -> list[LinearMap]:
    """Candidates, as maps of the scores of all prompts."""
    prompts, count = scored.prompts, len(scored.prompts)

    def fitted(first: int) -> LinearMap:
        named: Sequence[Prompt | str] = [one for one in prompts[first + 1 :] if not isinstance(one, np.ndarray)]
        fit = fit_readout(config.readout, scored.train[first:], labels, config.seed, named)
        return LinearMap.of_readout(fit.readout, first, count)

    if config.readout != "auto":
        return [LinearMap.alone(0, count, scored.train[0].shape[1]), fitted(0)]
    return [fitted(0).mean_with(fitted(1)) if moved else fitted(1)]
