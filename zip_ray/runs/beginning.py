"""The beginning of a run: the survey of the templates, the start that it chooses, and the facts for the method."""

import logging
from dataclasses import dataclass

import numpy as np
import scipy

from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers import Problem
from zip_ray.optimizers.gauss_newton import GaussNewtonOptions
from zip_ray.pool.asking import Waiting, ask
from zip_ray.pool.contract import Pool
from zip_ray.prompts import PromptSpace, make_space, step_unit
from zip_ray.protocol.arrays import Float32, Float64, Int64
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import FactsRequest
from zip_ray.protocol.mini_batches import chunks
from zip_ray.readout.fitting import fit_readout
from zip_ray.runs.query_plan import QueryPlan
from zip_ray.runs.survey import Survey, survey

KEPT_CLASSES = 16
"""Classes per image whose scores travel; with more, the others are pooled (docs/measurements/rounds.md)."""

TAUGHT = 0.7
"""Share of a readout's predictions in the targets of a prompt (docs/measurements/class-scores.md)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beginning:
    """A run before its first step."""

    plan: QueryPlan
    survey: Survey | None
    """None where the config gives the start."""
    template: str | None
    """The template that the prompt space starts from; None as configured."""
    facts: Facts
    """With the context and the suffix of that start."""
    space: PromptSpace

    queries: int = 0
    """Charged for the survey."""

    @property
    def unit(self) -> float:
        """Length per parameter of a step as long as the prompt's own scale."""
        return step_unit(self.space, self.facts.shape)

    @property
    def surveyed(self) -> list[str]:
        """The templates of the survey, the start first, then from the lowest loss on."""
        ranking = [] if self.survey is None else self.survey.ranking
        return sorted(ranking, key=lambda template: template != self.template)

    def problem(self, config: Config) -> Problem:
        """The facts for a method on class scores."""
        labels = self.facts.labels
        kept = None
        if self.survey is not None and self.template is not None and len(self.facts.classnames) > 2 * KEPT_CLASSES:
            kept = kept_classes(self.survey.of(self.template), labels, KEPT_CLASSES)
        targets = self._targets(config.seed) if config.readout == "none" else None
        return Problem(labels, config.task.batch_size, config.seed, self.unit, kept, targets)

    def _targets(self, seed: int) -> Float64 | None:
        """Targets of a prompt that is deployed alone: the labels, mixed with the predictions of a readout of the survey
        for images that it was not fitted to, which delays overfitting. With a readout the targets are the labels.
        """
        if self.survey is None:
            return None
        labels, templates = self.facts.labels, self.surveyed
        scores = [self.survey.of(template) for template in templates]
        taught = scipy.special.softmax(fit_readout("auto", scores, labels, seed, templates[1:]).held_out, axis=1)
        return np.asarray((1 - TAUGHT) * np.eye(taught.shape[1])[labels] + TAUGHT * taught)


def begin(
    pool: Pool, config: Config, facts: Facts, plan: QueryPlan, surveyed: Survey | None, meanwhile: Waiting
) -> Beginning:
    """Survey the templates, unless that has been done, and start from the best one that the prompt space supports.

    Args:
        pool: processes the queries.
        config: of the run.
        facts: as configured.
        plan: of the run's queries.
        surveyed: by the run that is resumed.
        meanwhile: called at intervals during a wait.

    Raises:
        PoolError, InputError: as the pool does, or the prompt space fits no start.
    """
    if not plan.templates:
        return Beginning(plan, None, None, facts, make_space(config.prompt, facts.shape, config.seed))
    images, size = facts.images["train"], config.task.batch_size
    found = surveyed or survey(pool, plan.templates, images, size, meanwhile)
    fault = InputError("prompt.init: the prompt space can start from none of the templates")
    for template in found.ranking:
        of_start = ask(pool, FactsRequest(template), Facts, meanwhile)
        try:
            space = make_space(config.prompt, of_start.shape, config.seed)
        except InputError as error:  # too few tokens for the intrinsic dimension, say
            _log.warning("the prompt space cannot start from the template '%s': %s", template, error)
            fault = error
            continue
        return Beginning(plan, found, template, of_start, space, len(found.templates) * chunks(images, size))
    raise fault


def kept_classes(scores: Float32, labels: Int64, count: int) -> Int64:
    """For each image its own class, then the others with the highest scores, shape (n, count).

    Args:
        scores: at the start, shape (n, classes).
        labels: shape (n,).
        count: below the number of classes.
    """
    rivals = scores.astype(np.float64)
    rivals[np.arange(len(labels)), labels] = np.inf
    return np.argsort(-rivals, axis=1, kind="stable")[:, :count]


def sized(config: Config, plan: QueryPlan) -> Config:
    """The config with the queries of a round as a number, which a resume keeps."""
    if not isinstance(config.optimizer, GaussNewtonOptions):
        return config
    optimizer = config.optimizer.model_copy(update={"round_queries": plan.round_queries})
    return config.model_copy(update={"optimizer": optimizer})
