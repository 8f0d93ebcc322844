"""Queries to target: how many queries each method needs to reach what all methods reach."""

import math
from collections.abc import Sequence

from zip_ray.comparison.report.document import Table, row
from zip_ray.comparison.report.scores import NONE, at_shots, mean, percent, sole_best
from zip_ray.comparison.results import Finished, Results
from zip_ray.comparison.statistics import queries_to_target, smoothed


def target_table(results: Results, shots: int) -> Table:
    """Queries to the target, means over seeds, below the target itself; the fewest are bold, unless shared."""
    levels, found = queries_needed(results, shots)
    tasks = list(results.tasks)
    apart = results.white_box

    def line(values: Sequence[tuple[str, float]]) -> list[float]:
        by_task = {task: mean([value for of, value in values if of == task]) for task in tasks}
        return [*by_task.values(), mean([by_task[task] for task in results.shared])]

    means = {method: line(values) for method, values in found.items()}
    fewest = sole_best(
        {
            method: [math.nan if method in apart or math.isnan(n) else round(n) for n in own]
            for method, own in means.items()
        },
        min,
    )
    rows = [
        row(
            f"{method} (white box)" if method in apart else method,
            [NONE if math.isnan(n) else f"{n:,.0f}" for n in own],
            fewest[method],
        )
        for method, own in means.items()
    ]
    aim = row("the target, % on training mini-batches", [percent(level) for level in line(levels)])
    return Table((at_shots(results, "queries to target", shots), *tasks, "mean"), (aim, *rows), mean_last=True)


def queries_needed(results: Results, shots: int) -> tuple[list[tuple[str, float]], dict[str, list[tuple[str, float]]]]:
    """Pairs of task and target, and by method pairs of task and queries to it, one for each group of `complete`."""
    levels: list[tuple[str, float]] = []
    found: dict[str, list[tuple[str, float]]] = {method: [] for method in results.suite.methods}
    budget = results.budget
    for runs in complete(results, shots):
        curves = {one.run.method: smoothed(one.training, budget) for one in runs}
        level, needed = queries_to_target(curves, budget)
        levels.append((runs[0].run.task, level))
        for method, queries in needed.items():
            found[method].append((runs[0].run.task, queries))
    return levels, found


def complete(results: Results, shots: int) -> list[list[Finished]]:
    """The runs of each task and seed that every method with a finished run has finished."""
    groups: dict[tuple[str, int], list[Finished]] = {}
    at = [one for one in results.finished if one.run.shots == shots]
    for one in at:
        groups.setdefault((one.run.task, one.run.seed), []).append(one)
    methods = {one.run.method for one in at}
    return [runs for runs in groups.values() if len(runs) == len(methods)]
