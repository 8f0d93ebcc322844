"""The picture of a run: accuracy against queries."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zip_ray.files import write_whole
from zip_ray.runs.plotting import PALETTE, legend_below, new_figure, plain_numbers, png
from zip_ray.tuning.events import Event, StepEvent, ValidationEvent

FILE_NAME = "accuracy.png"
MOST_POINTS = 4000
"""Per curve: more cannot be distinguished."""
BLUE, ORANGE, GREEN, _, PURPLE = PALETTE[:5]
GREY = "#999999"
DASHED = ("--", "-.", ":", (0, (1, 3)))


def draw_accuracy(path: Path, events: Iterable[Event], title: str, levels: dict[str, float]) -> None:
    """Draw accuracy against queries, with a dashed line for each level (zero-shot, tuned), as PNG.

    Args:
        path: the picture.
        events: the run's record.
        title: above the picture.
        levels: test accuracies by name, shares between 0 and 1.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    training, validation = _Curve(), _Curve()
    for event in events:
        match event:
            case StepEvent():
                training.take(event)
            case ValidationEvent():
                validation.take(event)
    training.draw(axes, "train mini-batch", color=GREY, linewidth=0.8)
    validation.draw(axes, "validation", color=BLUE, linewidth=2, marker="o", markersize=3)
    for (name, level), colour, dashes in zip(levels.items(), (PURPLE, ORANGE, GREEN, BLUE), DASHED, strict=False):
        axes.axhline(100 * level, linestyle=dashes, color=colour, label=f"test, {name}: {100 * level:.1f}%")
    axes.set_xlabel("queries (evaluations of the model on one mini-batch at one prompt)")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    plain_numbers(axes)
    legend_below(figure)
    write_whole(path, png(figure, 130))


class _Curve:
    """Accuracy (%) against queries; in long runs only every second point, or fourth, and so on."""

    def __init__(self) -> None:
        self._seen, self._stride = 0, 1
        self.points: list[tuple[int, float]] = []

    def take(self, event: StepEvent | ValidationEvent) -> None:
        if math.isnan(event.accuracy):
            return
        if self._seen % self._stride == 0:
            self.points.append((event.queries, 100 * event.accuracy))
        self._seen += 1
        if len(self.points) > MOST_POINTS:
            self.points, self._stride = self.points[::2], 2 * self._stride

    def draw(self, axes: Any, label: str, **style: Any) -> None:
        if self.points:
            axes.plot(*zip(*self.points, strict=True), label=label, **style)
