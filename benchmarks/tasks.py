"""The built-in tasks and their test sets, zero-shot and in pictures: `python benchmarks/tasks.py --help`."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, table
from tools.small_clip.card import accuracies
from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.config.task import BUILT_IN, TaskConfig, known_test_sets
from zip_ray.tasks import Task, load_task

SHOWS = {
    "digits": "real handwritten digits (UCI), 8 x 8 pixels",
    "count": "objects of one shape and colour",
    "texture": "patterns",
    "shape": "one shape",
    "letter": "capital letters, white on black",
    "colour": "one shape; the class is its colour",
    "street": "a digit between two that the sides cut off, on a speckled wall",
    "style": "patterns; the class is the style of the picture",
    "crowd": "objects of any shapes, sizes and colours",
    "inlay": "a pattern inside of a shape",
    "background": "one shape; the class is the colour behind it",
    "stars": "the outline of a shape as dots",
}
COLUMNS, THUMBNAIL, GAP = 6, 32, 2
"""Pictures of a test set; their side, and the white beside them, pixels."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Zero-shot accuracy of the shipped model on every built-in task and test set; wanted: all above chance."""


Found = dict[tuple[str, str], tuple[Task, dict[str, float]]]
"""Task name and test set: the task, and the accuracy of each hand-written template, the plain one first."""


def measure(sets: Sequence[tuple[str, str]]) -> Found:
    """Measure these test sets, which do not depend on the seed."""
    clip = load_clip(ModelConfig(), "cpu")
    found: Found = {}
    for name, test_set in sets:
        task = load_task(TaskConfig(name=name, test_set=test_set, shots=1), seed=1)
        found[name, test_set] = task, accuracies(clip, task)
    return found


def main(options: Options) -> int:
    """Measure; exit code."""
    every = [(name, test_set) for name in BUILT_IN for test_set in known_test_sets(name)]
    found = measure(every[:1] if options.quick else every)
    tasks = table(
        ["task", "shows", "base classes", "new classes", "chance"],
        [describe(name, task) for (name, test_set), (task, _) in found.items() if test_set == "test"],
    )
    sets = table(
        ["task", "test set", "images", "plain template", "best template", "its text"],
        [[*key, *judge(*value)] for key, value in found.items()],
    )
    print(f"{tasks}\n\n{sets}\n")
    if options.write:
        write(tasks, sets, found)
    above = [next(iter(figures.values())) > 1 / len(task.classnames) for task, figures in found.values()]
    print(f"plain template above chance on {sum(above)} of {len(above)} test sets (wanted all)")
    return int(options.check and not all(above))


def describe(name: str, task: Task) -> list[str]:
    """A row of the table of tasks."""
    half = math.ceil(len(task.classnames) / 2)
    base, new = (" ".join(part) for part in (task.classnames[:half], task.classnames[half:]))
    return [name, SHOWS[name], base, new, f"{1 / len(task.classnames):.1%}"]


def judge(task: Task, figures: dict[str, float]) -> list[str]:
    """Size and accuracies of a test set."""
    best = max(figures, key=lambda template: figures[template])
    return [str(len(task.test)), f"{figures[task.template]:.1%}", f"{figures[best]:.1%}", best]


def write(tasks: str, sets: str, found: Found) -> None:
    """docs/measurements/tasks.md and docs/measurements/tasks.png."""
    note = (
        "Made by `python benchmarks/tasks.py --write`. `task.name` is a task of the first table, `task.test_set` a "
        "test set of the second. Training and validation images are always like those of `test`; a rendered task has "
        "as many of them as four draws take. A shifted test set "
        "of the digits is made of the same 898 images; one of a rendered task shows the same things in another style "
        "(of `style`: the same styles on other things). The small CLIP was trained on digits, letters, shapes, counts "
        "and patterns in all nine styles, but on nothing like `street`, `crowd`, `inlay` and `stars`. With "
        "`background` the first colour that a caption names is the object's: a template that names one is needed."
    )
    zero_shot = (
        "Test accuracy of the hand-written templates. The best template is the best on that very test set, so its "
        "figure is higher than one chosen on training images would have."
    )
    picture = "![A few images of each task and test set](tasks.png)"
    text = f"# Built-in tasks\n\n{note}\n\n{tasks}\n\n{picture}\n\n## Zero-shot\n\n{zero_shot}\n\n{sets}\n"
    (MEASUREMENTS / "tasks.md").write_text(text, encoding="utf-8")
    draw(MEASUREMENTS / "tasks.png", found)


def draw(path: Path, found: Found) -> None:
    """One row per task, one cell per test set: images of a few classes, the same in each cell of a row."""
    from matplotlib.figure import Figure

    width = max(len(known_test_sets(name)) for name, _ in found)
    names = list(dict.fromkeys(name for name, _ in found))
    figure = Figure(figsize=(2.9 * width, 0.78 * len(names)), layout="constrained")
    cells = figure.subplots(len(names), width, squeeze=False)
    for row, name in zip(cells, names, strict=True):
        for cell in row:
            cell.axis("off")
        for cell, test_set in zip(row, known_test_sets(name), strict=False):
            cell.imshow(strip(found[name, test_set][0]))
            cell.set_title(f"{name}: {test_set}", fontsize=9, pad=2)
    figure.savefig(path, dpi=110)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)  # noise makes a large file otherwise


def strip(task: Task) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The first image of classes spread evenly, side by side."""
    labels = np.linspace(0, len(task.classnames) - 1, COLUMNS).round()
    images = [task.test.image(int(np.argmax(task.test.labels == label))) for label in labels]
    thumbnails = [np.asarray(i.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.NEAREST)) for i in images]
    return np.hstack([np.pad(t, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for t in thumbnails])


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
