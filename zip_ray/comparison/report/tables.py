"""The tables of a report but those of targets. Accuracies are in per cent, differences in points."""

import math
from collections.abc import Mapping, Sequence

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE
from zip_ray.comparison.report.document import Table, row
from zip_ray.comparison.report.scores import NONE, best_bold, mean, mean_score, percent, seeds_score
from zip_ray.comparison.results import Results
from zip_ray.comparison.statistics import paired_tests
from zip_ray.runs.zero_shot import FEATURE_BASELINES

Grid = Mapping[str, Mapping[str, Sequence[float]]]
"""Values of the seeds, by row and column."""


def accuracies(results: Results, shots: int) -> Grid:
    """Test accuracies by row (zero-shot, then methods) and task."""
    tasks, methods = results.tasks, results.suite.methods
    names = untuned(results)
    rows = {untuned_label(name): {task: zero_shot(results, name, task, shots) for task in tasks} for name in names}
    tuned = {
        method: {task: [one.accuracy for one in results.of(method, task, shots)] for task in tasks}
        for method in methods
    }
    return rows | tuned


def untuned(results: Results) -> list[str]:
    """Names of the hand-written templates, and baselines, that the runs have, in the order of the first run."""
    return list(dict.fromkeys(name for one in results.finished for name in one.zero_shot))


def untuned_label(name: str) -> str:
    """Label of the row of a template."""
    return name if name in FEATURE_BASELINES else f"zero-shot, {name}"


def zero_shot(results: Results, template: str, task: str, shots: int) -> list[float]:
    """Test accuracy of a template, per seed, from the run of any method."""
    by_seed = {
        one.run.seed: one.zero_shot[template]
        for one in results.finished
        if (one.run.task, one.run.shots) == (task, shots) and template in one.zero_shot
    }
    return [by_seed[seed] for seed in sorted(by_seed)]


def templates_table(results: Results) -> Table:
    """Texts of the hand-written templates; the best one depends on the images that a seed draws."""

    def texts(name: str, task: str) -> str:
        runs = [one for one in results.finished if one.run.task == task]
        found = (one.templates[name] for one in runs if name in one.templates)
        return " / ".join(dict.fromkeys(found)) or NONE

    names = [name for name in untuned(results) if name not in FEATURE_BASELINES]
    rows = tuple(row(task, [texts(name, task) for name in names]) for task in results.tasks)
    return Table(("task", *names), rows, numbers=False)


def gains(results: Results, shots: int) -> Grid:
    """Accuracy less that of the plain template, by method and task."""
    return {
        method: {
            task: [one.accuracy - one.zero_shot[PLAIN_TEMPLATE] for one in results.of(method, task, shots)]
            for task in results.tasks
        }
        for method in results.suite.methods
    }


def grid_table(results: Results, grid: Grid, corner: str, sign: str = "") -> Table:
    """Mean and deviation over seeds in each cell, and in the last column the mean over the shared tasks.

    Args:
        results: whose.
        grid: the values, shares.
        corner: head of the first column.
        sign: `+` to have every number signed.
    """
    lines = {name: {task: seeds_score(results, values) for task, values in line.items()} for name, line in grid.items()}
    scores = {name: [*line.values(), mean_score(results, line)] for name, line in lines.items()}
    apart = results.white_box | set(FEATURE_BASELINES)
    return best_bold((corner, *next(iter(grid.values())), "mean"), scores, apart, sign, mean_last=True)


def seeds_table(results: Results) -> Table:
    """One row per run."""
    header = (
        "run",
        "seed",
        "test accuracy, %",
        f"{untuned_label(PLAIN_TEMPLATE)}, %",
        "parameters",
        "queries",
        "wasted",
        "seconds",
    )
    rows = [
        row(
            f"{one.run.task}, {one.run.shots} shots, {one.run.method}",
            [
                str(one.run.seed),
                percent(one.accuracy) + " (below)" * one.below_zero_shot,
                percent(one.zero_shot[PLAIN_TEMPLATE]),
                f"{one.parameters:,}",
                f"{one.account.charged:,}",
                f"{one.account.wasted:,}",
                f"{one.seconds:.1f}",
            ],
        )
        for one in results.finished
    ]
    return Table(header, tuple(rows))


def overview_table(results: Results) -> Table:
    """A row for each template and method: means over the shared tasks, the shots and the seeds."""
    shared = set(results.shared)
    runs = [one for one in results.finished if one.run.task in shared]
    rows = [
        row(
            untuned_label(name),
            [percent(mean([one.zero_shot[name] for one in runs if name in one.zero_shot])), "0", "0", "0"],
        )
        for name in untuned(results)
    ]
    for method in results.suite.methods:
        own = [one for one in runs if one.run.method == method]
        figures = (
            mean([one.account.charged for one in own]),
            mean([one.steps for one in own]),
            mean([one.seconds for one in own]),
        )
        accuracy = percent(mean([one.accuracy for one in own]))
        rows.append(row(method, [accuracy, *("" if math.isnan(n) else f"{n:,.0f}" for n in figures)]))
    return Table(("method", "test accuracy, %", "queries", "updates", "seconds"), tuple(rows))


def tests_table(results: Results) -> Table:
    """Paired tests of the first method against each other one, and against zero-shot."""
    by_method: dict[str, dict[str, float]] = {method: {} for method in results.suite.methods}
    plain: dict[str, float] = {}
    for one in results.finished:
        key = f"{one.run.task} {one.run.shots} {one.run.seed}"
        by_method[one.run.method][key] = one.accuracy
        plain[key] = one.zero_shot[PLAIN_TEMPLATE]
    reference = next(iter(by_method))
    tests = paired_tests({**by_method, untuned_label(PLAIN_TEMPLATE): plain}, reference)
    rows = [
        row(test.method, [str(test.pairs), percent(test.difference, "+"), _p(test.p), _p(test.holm)]) for test in tests
    ]
    return Table(
        (f"against {reference}", "pairs", f"mean difference to {reference}, points", "p", "p, Holm"), tuple(rows)
    )


def _p(p: float) -> str:
    return NONE if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
