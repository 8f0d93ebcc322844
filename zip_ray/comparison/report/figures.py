"""The figures of a report, as PNG. A method has the same colour, marker and line in every figure."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE
from zip_ray.comparison.report.scores import over_tasks
from zip_ray.comparison.report.tables import untuned_label, zero_shot
from zip_ray.comparison.results import Finished, Results
from zip_ray.comparison.statistics import Curve, band, mean_and_deviation, smoothed
from zip_ray.protocol.arrays import Float64
from zip_ray.runs.plotting import GREY, legend_below, looks, new_figure, plain_numbers, png

MOST_BANDS = 3
"""Largest number of methods whose curves have bands: more of them hide the curves."""
PANELS = 3
"""Tasks side by side."""
DPI = 110


def with_bands(results: Results) -> list[str]:
    """The methods whose curves have bands: the first ones of the suite."""
    return list(results.suite.methods)[:MOST_BANDS]


def against_queries(results: Results) -> bytes:
    """Validation accuracy against queries, one panel per task."""
    return _curves(results, lambda one: one.validation, lambda curve: curve.queries, "queries", "validation")


def against_seconds(results: Results) -> bytes:
    """Validation accuracy against seconds of tuning."""
    label = "seconds of tuning"
    return _curves(results, lambda one: one.validation, lambda curve: curve.seconds, label, "validation")


def training(results: Results) -> bytes:
    """Smoothed accuracy on training mini-batches against queries, from which queries to target are read."""
    budget = results.budget
    return _curves(
        results,
        lambda one: smoothed(one.training, budget),
        lambda curve: curve.queries,
        "queries",
        "smoothed training",
    )


def tasks(results: Results) -> bytes:
    """Test accuracy on every task: a small point per seed, a large one for the mean, a line for zero-shot."""
    names = list(reversed(list(results.tasks)))
    methods = list(results.suite.methods)
    figure = new_figure(8.5, 1.4 + (0.3 + 0.11 * len(methods)) * len(names))
    axes = figure.add_subplot()
    shots = max(results.suite.shots)
    style_of = looks(results.suite.methods)
    for place, task in enumerate(names):
        level = mean_and_deviation(zero_shot(results, PLAIN_TEMPLATE, task, shots))[0]
        if not math.isnan(level):
            label = untuned_label(PLAIN_TEMPLATE)
            axes.vlines(100 * level, place - 0.42, place + 0.42, color=GREY, linestyle="--", label=label)
        for number, method in enumerate(methods):
            y = place + 0.36 - 0.72 * (number + 0.5) / len(methods)
            found = [100 * one.accuracy for one in results.of(method, task, shots)]
            style = {"color": style_of[method]["color"], "marker": style_of[method]["marker"]}
            axes.scatter(found, [y] * len(found), s=22, alpha=0.45, linewidths=0, zorder=3, **style)
            if found:
                mean = sum(found) / len(found)
                axes.scatter([mean], [y], s=64, edgecolors="white", zorder=4, label=method, **style)
        if place:
            axes.axhline(place - 0.5, color="#dddddd", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.5, len(names) - 0.5)
    axes.set_xlabel(f"test accuracy (%), {shots} shots; small: a seed, large: the mean")
    axes.grid(axis="x", alpha=0.3)
    legend_below(figure)
    return png(figure, DPI)


def against_shots(results: Results) -> bytes:
    """Test accuracy, mean over tasks, against shots; deviation of that mean over seeds."""
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    shots = sorted(results.suite.shots)
    for method, style in looks(results.suite.methods).items():
        runs = [[one for one in results.finished if (one.run.method, one.run.shots) == (method, n)] for n in shots]
        cells = [over_tasks(results, [(one.run, one.accuracy) for one in cell]) for cell in runs]
        found = [mean_and_deviation(cell) for cell in cells]
        y, spread = [100 * mean for mean, _ in found], [0.0 if math.isnan(d) else 100 * d for _, d in found]
        axes.errorbar(shots, y, yerr=spread, capsize=3, **style)
    levels = [mean_and_deviation(zero_shot(results, PLAIN_TEMPLATE, task, shots[-1]))[0] for task in results.shared]
    axes.axhline(100 * mean_and_deviation(levels)[0], color=GREY, linestyle="--", label=untuned_label(PLAIN_TEMPLATE))
    axes.set_xscale("log", base=2)
    plain_numbers(axes)
    axes.set_xticks(shots)
    axes.set_xlabel("shots (training images per class)")
    axes.set_ylabel("test accuracy (%), mean over tasks")
    axes.grid(alpha=0.3)
    legend_below(figure)
    return png(figure, DPI)


def _curves(
    results: Results, curve: Callable[[Finished], Curve], x: Callable[[Curve], Float64], label: str, what: str
) -> bytes:
    """One panel per task: mean over seeds, and for a few methods a band of one standard deviation."""
    names = list(results.tasks)
    columns = min(PANELS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(max(4.0 * columns, 6.5), 3.2 * rows + 0.9)
    shots = max(results.suite.shots)
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(names):
            axes.set_axis_off()
            continue
        for method, style in looks(results.suite.methods).items():
            curves = [curve(one) for one in results.of(method, names[place], shots)]
            _draw(axes, curves, x, style, method in with_bands(results))
        plain_numbers(axes)
        axes.set_title(names[place], fontsize=11)
        axes.grid(alpha=0.3)
        axes.set_xlabel(label)
        if place % columns == 0:
            axes.set_ylabel(f"{what} accuracy (%)")
    legend_below(figure)
    return png(figure, DPI)


def _draw(
    axes: Any, curves: Sequence[Curve], x: Callable[[Curve], Float64], style: dict[str, Any], with_band: bool
) -> None:
    points = [(x(one), 100 * one.accuracy) for one in curves if one.accuracy.size]
    if not points:
        return
    axis, mean, deviation = band(points)
    if with_band:
        axes.fill_between(axis, mean - deviation, mean + deviation, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(axis, mean, markevery=max(1, len(axis) // 8), markersize=5, linewidth=1.6, **style)
