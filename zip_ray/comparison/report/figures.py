"""The figures of a report, as PNG. A method has the same colour, marker and line in every figure."""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import cycle
from typing import Any

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE
from zip_ray.comparison.report.scores import over_tasks
from zip_ray.comparison.report.tables import zero_shot
from zip_ray.comparison.results import Finished, Results
from zip_ray.comparison.statistics import Curve, band, mean_and_deviation, smoothed
from zip_ray.protocol.arrays import Float64

# Okabe and Ito's palette, which colour-blind readers can distinguish; yellow is too light for a line on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
GREY = "#777777"
MOST_BANDS = 8
"""Largest number of methods whose curves have bands: with more, the bands hide the curves."""
PANELS = 3
"""Tasks side by side."""
DPI = 110


def styles(results: Results) -> dict[str, dict[str, Any]]:
    """Label, colour, marker and line of each method, in their order in the suite."""
    cycled = zip(results.suite.methods, cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    return {
        name: {"label": name, "color": colour, "marker": marker, "linestyle": line}
        for name, colour, marker, line in cycled
    }


def has_bands(results: Results) -> bool:
    """Whether the curves have bands around them."""
    return len(results.suite.methods) <= MOST_BANDS


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
    figure = _figure(8.5, 1.4 + (0.3 + 0.11 * len(methods)) * len(names))
    axes = figure.add_subplot()
    shots = max(results.suite.shots)
    style_of = styles(results)
    for place, task in enumerate(names):
        level = mean_and_deviation(zero_shot(results, PLAIN_TEMPLATE, task, shots))[0]
        if not math.isnan(level):
            label = f"zero-shot, {PLAIN_TEMPLATE}"
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
    _legend(figure)
    return _png(figure)


def against_shots(results: Results) -> bytes:
    """Test accuracy, mean over tasks, against shots; deviation of that mean over seeds."""
    figure = _figure(7, 4.5)
    axes = figure.add_subplot()
    shots = sorted(results.suite.shots)
    for method, style in styles(results).items():
        runs = [[one for one in results.finished if (one.run.method, one.run.shots) == (method, n)] for n in shots]
        cells = [over_tasks(results, [(one.run, one.accuracy) for one in cell]) for cell in runs]
        found = [mean_and_deviation(cell) for cell in cells]
        y, spread = [100 * mean for mean, _ in found], [0.0 if math.isnan(d) else 100 * d for _, d in found]
        axes.errorbar(shots, y, yerr=spread, capsize=3, **style)
    levels = [mean_and_deviation(zero_shot(results, PLAIN_TEMPLATE, task, shots[-1]))[0] for task in results.shared]
    axes.axhline(100 * mean_and_deviation(levels)[0], color=GREY, linestyle="--", label=f"zero-shot, {PLAIN_TEMPLATE}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(n) for n in shots])
    axes.set_xlabel("shots (training images per class)")
    axes.set_ylabel("test accuracy (%), mean over tasks")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return _png(figure)


def _curves(
    results: Results, curve: Callable[[Finished], Curve], x: Callable[[Curve], Float64], label: str, what: str
) -> bytes:
    """One panel per task: mean over seeds, and a band of one standard deviation."""
    names = list(results.tasks)
    columns = min(PANELS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = _figure(max(4.0 * columns, 6.5), 3.2 * rows + 0.9)
    shots = max(results.suite.shots)
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(names):
            axes.set_axis_off()
            continue
        for method, style in styles(results).items():
            curves = [curve(one) for one in results.of(method, names[place], shots)]
            _draw(axes, curves, x, style, has_bands(results))
        axes.set_title(names[place], fontsize=11)
        axes.grid(alpha=0.3)
        axes.set_xlabel(label)
        if place % columns == 0:
            axes.set_ylabel(f"{what} accuracy (%)")
    _legend(figure)
    return _png(figure)


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


def _legend(figure: Any) -> None:
    """One legend below all panels, since any of them may lack a method. As many columns as fit, up to four."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= {label: handle for handle, label in zip(handles, labels, strict=True)}
    for columns in (4, 3, 2, 1) if found else ():
        style = {"loc": "outside lower center", "ncols": columns, "fontsize": 9}
        legend = figure.legend(list(found.values()), list(found), **style)
        if columns == 1 or legend.get_window_extent(figure.canvas.get_renderer()).width <= figure.bbox.width:
            return
        legend.remove()


def _figure(width: float, height: float) -> Any:
    """A figure that belongs to no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    image = BytesIO()
    figure.savefig(image, format="png", dpi=DPI)
    return image.getvalue()
