"""How wide a round may be, in queries, and what a deadline allows, in accuracy."""

from collections.abc import Sequence

import numpy as np

from benchmarks.common import ROOT, configure, table
from benchmarks.curves import Curve, follow
from benchmarks.late_answers import PASS_SECONDS
from benchmarks.virtual_time import Remembering, VirtualPool
from zip_ray.config.reading import load_config
from zip_ray.scorer.scorer import build_scorer

OF_GAIN = 0.75
"""Share of what the narrowest round gains that is the target."""
RACERS = ("zip", "zip-tuned", "gauss-newton")
"""Methods, as files under configs/methods."""

WIDTH_NOTE = (
    "gauss-newton without a readout, rounds of so many queries on as many actors, the survey of the templates "
    "included. Queries until the mean of the seeds has three quarters of what it gains with the narrowest round, "
    "interpolated between rounds."
)
DEADLINE_NOTE = (
    f"`budget.seconds` alone, one actor at {1000 * PASS_SECONDS:.0f} ms per query, no validation of ZIP: test accuracy "
    "of the latest iterate, %. ZIP without random crops; gauss-newton without a readout."
)


def widen(job: tuple[str, int, int, tuple[int, ...]]) -> dict[int, Curve]:
    """Curves of one task, seed and budget of queries by the width of a round."""
    task, seed, queries, widths = job
    scorer = Remembering(build_scorer(configure(task, seed, queries)))
    curves = {}
    for width in widths:
        config = configure(
            task,
            seed,
            queries,
            readout="none",
            optimizer={"method": "gauss-newton", "round_queries": width},
            output={"checkpoint_every_steps": 1},
        )
        curves[width] = follow(config, scorer, VirtualPool(scorer, width, PASS_SECONDS))
    return curves


def width_table(found: dict[str, Sequence[dict[int, Curve]]]) -> str:
    """A row per width.

    Args:
        found: of each task one set of curves per seed.
    """
    spent = {task: _queries_to_target(curves) for task, curves in found.items()}
    widths = list(next(iter(spent.values())))
    rows = []
    for width in widths:
        ratios = [of[width] / of[widths[0]] for of in spent.values()]
        cells = [f"{of[width]:.0f}" if np.isfinite(of[width]) else "never" for of in spent.values()]
        rows.append([str(width), *cells, f"{np.mean(ratios):.2f}"])
    return table(["queries of a round", *spent, "times the queries"], rows)


def _queries_to_target(curves: Sequence[dict[int, Curve]]) -> dict[int, float]:
    """By width, the narrowest first; infinite where the target is not reached."""
    means = {width: _mean([of[width] for of in curves]) for width in sorted(curves[0])}
    _, narrowest = next(iter(means.values()))
    target = narrowest[0] + OF_GAIN * (narrowest.max() - narrowest[0])
    return {width: _first(queries, accuracies, target) for width, (queries, accuracies) in means.items()}


def _mean(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Queries, and the best mean accuracy so far; all seeds are tested at the same queries."""
    queries = np.array([look.queries for look in curves[0]], dtype=np.float64)
    each = [np.interp(queries, [at.queries for at in curve], [at.accuracy for at in curve]) for curve in curves]
    return queries, np.maximum.accumulate(np.mean(each, axis=0))


def _first(queries: np.ndarray, accuracies: np.ndarray, target: float) -> float:
    if accuracies[-1] < target:
        return float("inf")
    place = int(np.argmax(accuracies >= target))
    if place == 0:
        return float(queries[0])
    return float(np.interp(target, accuracies[place - 1 : place + 1], queries[place - 1 : place + 1]))


def meet(job: tuple[str, str, int, int]) -> float:
    """Test accuracy of a method on a task with a seed, after so many seconds."""
    method, task, seed, seconds = job
    shipped = load_config(ROOT / "configs" / "methods" / f"{method}.yaml")
    scored = method == "gauss-newton"
    config = configure(
        task,
        seed,
        1,
        prompt=shipped.prompt.model_dump(),
        optimizer=shipped.optimizer.model_dump(),
        budget={"queries": None, "seconds": seconds},
        readout="none",
        output={"checkpoint_every_steps": 1 if scored else 50},
    )
    scorer = build_scorer(config)
    return follow(config, scorer, VirtualPool(scorer, 1, PASS_SECONDS))[-1].accuracy


def deadline_table(found: dict[tuple[str, str, int, int], float], tasks: Sequence[str], seeds: Sequence[int]) -> str:
    """A row per method and deadline: the accuracies of the seeds by task, and the mean of all."""
    rows = []
    for method in RACERS:
        for seconds in sorted({job[3] for job in found}):
            by_task = [[100 * found[method, task, seed, seconds] for seed in seeds] for task in tasks]
            cells = [", ".join(f"{one:.1f}" for one in ones) for ones in by_task]
            rows.append([method, str(seconds), *cells, f"{np.mean(by_task):.1f}"])
    return table(["method", "seconds", *tasks, "mean"], rows)
