"""How many classes' scores must travel: what Gauss-Newton reaches when each image keeps k, the rest pooled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.common import configure, table
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.in_process import InProcessPool
from zip_ray.runs.beginning import begin, kept_classes, sized
from zip_ray.runs.query_plan import plan_queries
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState


@dataclass(frozen=True)
class Reached:
    """What a run reached on validation images."""

    accuracy: float
    loss: float
    steps: int


def reach(job: tuple[str, int, int, int | None]) -> Reached:
    """The iterate with the lowest validation loss.

    Args:
        job: task, seed, queries, and classes kept per image; None for all.
    """
    task, seed, queries, kept = job
    config = configure(task, seed, queries, optimizer={"method": "gauss-newton"}, readout="none")
    scorer = build_scorer(config)
    pool, facts = InProcessPool(lambda: scorer), scorer.facts()
    plan = plan_queries(config, facts)
    config = sized(config, plan)
    begun = begin(pool, config, facts, plan, None, lambda: None)
    assert begun.survey is not None
    assert begun.template is not None
    problem = begun.problem(config)
    chosen = None if kept is None else kept_classes(begun.survey.of(begun.template), facts.labels, kept)
    spent = begun.queries
    state = RunState(OptimizerState(begun.space.initial()), account=Account(spent, spent, spent))
    ended = Tuning(
        config,
        pool,
        state,
        lambda _: None,
        lambda _: None,
        problem=problem._replace(kept=chosen),
        start=begun.template,
    ).run()
    best = ended.state.best
    assert best is not None
    return Reached(best.accuracy, best.loss, ended.state.optimizer.steps)


def kept_table(found: dict[tuple[int | None, int], Reached], counts: Sequence[int | None], seeds: Sequence[int]) -> str:
    """A row per number of classes kept."""
    rows = []
    for count in counts:
        of = [found[count, seed] for seed in seeds]
        by_seed = ", ".join(f"{100 * one.accuracy:.1f}" for one in of)
        losses = ", ".join(f"{one.loss:.3f}" for one in of)
        mean, loss = np.mean([one.accuracy for one in of]), np.mean([one.loss for one in of])
        rows.append(["all" if count is None else str(count), f"{100 * mean:.1f}", by_seed, f"{loss:.3f}", losses])
    return table(["classes kept", "validation accuracy, %", "by seed", "validation loss", "by seed"], rows)
