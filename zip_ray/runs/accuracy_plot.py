"""The picture of a run: accuracy against queries."""

import math
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from zip_ray.files import write_whole
from zip_ray.tuning.events import Event, StepEvent, ValidationEvent

FILE_NAME = "accuracy.png"
MOST_POINTS = 4000
"""Per curve: more cannot be distinguished."""
# Okabe and Ito's palette, which colour-blind readers can distinguish too.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999"


def draw_accuracy(path: Path, events: Iterable[Event], title: str, levels: dict[str, float]) -> None:
    """Draw accuracy against queries, with a dashed line for each level (zero-shot, tuned), as PNG.

    Args:
        path: the picture.
        events: the run's record.
        title: above the picture.
        levels: test accuracies by name, shares between 0 and 1.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
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
    for (name, level), colour in zip(levels.items(), (PURPLE, ORANGE, GREEN, BLUE), strict=False):
        axes.axhline(100 * level, linestyle="--", color=colour, label=f"test, {name}: {100 * level:.1f}%")
    axes.set_xlabel("queries (evaluations of the model on one mini-batch at one prompt)")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    image = BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_whole(path, image.getvalue())


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
