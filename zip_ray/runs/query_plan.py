"""The plan for the queries of a run: the survey of the templates, rounds or steps, and the scores for the readout."""

import math
from typing import NamedTuple

from zip_ray.config.tree import Config
from zip_ray.optimizers.gauss_newton import LEAST_ROUND, GaussNewtonOptions
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.mini_batches import chunks

FEWEST_IN_ROUND, MOST_IN_ROUND = 52, 128
"""Queries of a round on few actors, and on many: between these a round gains as much per query
(docs/measurements/class-scores.md)."""
SURVEY_SHARE = 0.8
"""Largest share of the budget for the survey."""
FURTHER_SHARE = 1 / 8
"""Largest share of the remaining budget for the scores of further prompts, if the rest suffices for rounds."""
MOST_FURTHER = 12
"""Further prompts: more of them change nothing (docs/measurements/class-scores.md)."""


class QueryPlan(NamedTuple):
    """How the queries of a run are shared out."""

    templates: tuple[str, ...]
    """Hand-written templates that are surveyed; none where the start is given, or the budget is too small for one."""
    further: int
    """Prompts around the start whose scores are features of the readout."""
    reserved: int
    """Queries kept for the readout: of the further prompts, and of the tuned one; 0 where the budget is too small."""
    round_queries: int
    """Queries of a round of gauss-newton."""


def plan_queries(config: Config, facts: Facts) -> QueryPlan:
    """The plan of a run, which depends on its config and its images alone."""
    each = chunks(facts.images["train"], config.task.batch_size)
    budget = math.inf if config.budget.queries is None else config.budget.queries
    templates = _surveyed(config, facts, budget, each)
    left = budget - each * len(templates)
    needed = each if templates else 2 * each  # the start's scores too, since no survey has them
    for_tuned = needed if config.readout != "none" and left >= needed else 0
    if isinstance(config.optimizer, GaussNewtonOptions):
        further, round_queries = _plan_rounds(config, config.optimizer, left, for_tuned, each)
    else:
        further, round_queries = _further(config, left, each), LEAST_ROUND
    return QueryPlan(templates, further, for_tuned + each * further, round_queries)


def _plan_rounds(
    config: Config, optimizer: GaussNewtonOptions, left: float, for_tuned: int, each: int
) -> tuple[int, int]:
    """Further prompts, which get all where there is no room for a round, and the queries of a round."""
    if left - for_tuned < LEAST_ROUND:
        return _further(config, left - for_tuned, each, share=1), LEAST_ROUND
    further = _further(config, left, each)
    return further, _round(config, optimizer, left - for_tuned - each * further)


def _surveyed(config: Config, facts: Facts, budget: float, each: int) -> tuple[str, ...]:
    if not (isinstance(config.prompt, ContextOptions) and config.prompt.init == "auto") or config.prompt.visual:
        return ()
    known = tuple(dict.fromkeys((*facts.templates, facts.generic)))
    affordable = len(known) if budget == math.inf else int(SURVEY_SHARE * budget) // each
    return known[:affordable]


def _further(config: Config, left: float, each: int, share: float = FURTHER_SHARE) -> int:
    """Further prompts for a share of the queries that are left, `each` for one prompt."""
    if config.readout != "auto" or config.prompt.visual:
        return 0
    return MOST_FURTHER if left == math.inf else min(int(share * left) // each, MOST_FURTHER)


def _round(config: Config, optimizer: GaussNewtonOptions, queries: float) -> int:
    """Queries of a round: as many as the actors do at a time, within limits; of a budget, equal parts."""
    if optimizer.round_queries != "auto":
        return optimizer.round_queries
    actors = (config.cluster.most or 1) - 1  # one actor runs the validation at the same time
    wanted = min(max(actors, FEWEST_IN_ROUND), MOST_IN_ROUND)
    return wanted if queries == math.inf else int(queries // math.ceil(queries / wanted))
