"""The files of `evaluate`: predictions, accuracy per class, and the confusion matrix as a table and a picture."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import softmax

from zip_ray.artifact.prediction_rows import Row, RowFormat, ranked, write_rows
from zip_ray.artifact.scored_test import ScoredTest
from zip_ray.errors import InputError, OutputError
from zip_ray.files import write_whole
from zip_ray.protocol.arrays import Int64
from zip_ray.protocol.intervals import interval

NAMED_CLASSES = 60
"""Classes whose names a confusion picture has room for."""
KEPT_CLASSES = 5
"""Classes per image in the predictions, the most probable ones."""


def write_test(test: ScoredTest, folder: Path, form: RowFormat) -> list[Path]:
    """Write the tuned prompt's results on the test images; returns the paths.

    Raises:
        InputError: there are no classes.
        OutputError: the folder cannot be written to.
    """
    if not test.classnames:
        raise InputError(
            "--output: each image of this task has answers of its own, so there are no classes: leave it out"
        )
    matrix = test.confusion
    tables = {
        f"predictions.{form}": (_predictions(test), form),
        "classes.csv": (_classes(test.classnames, matrix), "csv"),
        "confusion.csv": (_confusion(test.classnames, matrix), "csv"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (rows, own) in tables.items():
            text = io.StringIO()
            write_rows(text, rows, own)
            write_whole(folder / name, text.getvalue().encode("utf-8", "backslashreplace"))
        write_whole(folder / "confusion.png", _picture(test.classnames, matrix))
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}: give another --output") from error
    return [folder / name for name in (*tables, "confusion.png")]


def _predictions(test: ScoredTest) -> Iterator[Row]:
    probabilities = softmax(test.deployed.astype(np.float64), axis=1)
    for image, label, row in zip(test.images, test.labels, probabilities, strict=True):
        made = ranked(dict(zip(test.classnames, row.tolist(), strict=True)), KEPT_CLASSES)
        yield {"image": str(image), "label": test.classnames[label], **made}


def _classes(classnames: tuple[str, ...], matrix: Int64) -> Iterator[Row]:
    for name, row, right in zip(classnames, matrix, matrix.diagonal(), strict=True):
        images = int(row.sum())
        accuracy = float(right / images) if images else 0.0
        low, high = interval(accuracy, images)
        yield {"classname": name, "images": images, "accuracy": accuracy, "low": round(low, 4), "high": round(high, 4)}


def _confusion(classnames: tuple[str, ...], matrix: Int64) -> Iterator[Row]:
    """The confusion matrix as rows: one row per true class, one column per predicted class."""
    for name, row in zip(classnames, matrix.tolist(), strict=True):
        yield {"true class": name, **dict(zip(classnames, row, strict=True))}


def _picture(classnames: tuple[str, ...], matrix: Int64) -> bytes:
    """The confusion matrix, each row as shares of its class, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 4 + 0.18 * min(len(classnames), NAMED_CLASSES)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = axes.imshow(
        100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="cividis", vmin=0, vmax=100
    )
    figure.colorbar(shown, label="share of the true class (%)")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(classnames) <= NAMED_CLASSES:
        axes.set_xticks(range(len(classnames)), classnames, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(classnames)), classnames, fontsize=7, parse_math=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    return image.getvalue()
