"""The picture of a run: accuracy against queries."""

from io import BytesIO
from pathlib import Path
from typing import Any

from zip_ray.files import write_whole
from zip_ray.record import Event

FILE_NAME = "accuracy.png"
# Okabe and Ito's palette: told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999"


def draw_accuracy(path: Path, events: list[Event], title: str, levels: dict[str, float]) -> None:
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
    _curve(axes, events, "step", "train mini-batch", GREY, linewidth=0.8)
    _curve(axes, events, "validation", "validation", BLUE, linewidth=2, marker="o", markersize=3)
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


def _curve(axes: Any, events: list[Event], kind: str, label: str, colour: str, **style: Any) -> None:
    points = [(event["queries"], event["accuracy"]) for event in events if event["event"] == kind]
    finite = [(x, 100 * y) for x, y in points if isinstance(y, float)]
    if finite:
        axes.plot(*zip(*finite, strict=True), color=colour, label=label, **style)
