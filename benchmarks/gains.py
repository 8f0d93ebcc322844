"""Choose the gains of a method on validation images: `python benchmarks/gains.py --help`.

Every choice of gains tunes every task as configs/methods/METHOD-tuned.yaml says; the one with the highest validation
accuracy of the last iterate, mean over tasks and seeds, is taken (of equals, the one with the lowest validation loss).
Test images are not used.
"""

import itertools
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import (
    MEASUREMENTS,
    ROOT,
    TASKS,
    BenchmarkOptions,
    Figures,
    configure,
    machine,
    parallel,
    run,
    table,
)
from zip_ray.config.reading import load_config
from zip_ray.config.tree import Config

Method = Literal["zip", "spsa", "spsa-gc", "blackvip"]
Grid = dict[str, tuple[float, ...]]
"""Values to try, by field of the config's optimizer section."""
SPSA: Grid = {
    "step_size": (0.001, 0.003, 0.01, 0.03),
    "perturbation_scale": (0.003, 0.01, 0.03),
    "pairs_per_step": (1, 5),
}
GRIDS: dict[Method, Grid] = {
    "zip": {"step_size": (0.01, 0.02, 0.05), "perturbation_scale": (0.01, 0.03), "pairs_per_step": (1, 5)},
    "spsa": SPSA,
    "spsa-gc": SPSA,
    "blackvip": {"step_size": (0.003, 0.01, 0.03), "perturbation_scale": (0.01, 0.03)},
}
"""The configuration of ZIP's authors is a point of each."""
Point = tuple[float, ...]
"""Values in the order of the grid's fields."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Grid of gains, judged on validation images; wanted: those in the method's tuned file."""

    method: Method = "zip"
    """Whose: configs/methods/METHOD-tuned.yaml."""
    queries: int = 5000
    """Budget of a run."""
    tasks: tuple[str, ...] = TASKS
    """Built-in tasks."""
    seeds: tuple[int, ...] = (101, 102, 103)
    """Seeds of the grid; the figures in docs/ use others."""
    model: str = "small-clip"
    """As `model.name`: a model of open_clip, or `local-dir:FOLDER`."""
    root: Path | None = None
    """Folder of images of your own, as for `task.name: folder`, in place of the built-in tasks."""


class Job(NamedTuple):
    """A run of the grid."""

    method: Method
    point: Point
    task: str
    seed: int
    queries: int
    model: str
    root: Path | None


def measure(job: Job) -> tuple[Point, Figures]:
    """One run of the grid."""
    config = shipped(job.method)
    optimizer = config.optimizer.model_dump() | dict(zip(GRIDS[job.method], job.point, strict=True))
    task = {"name": job.task} if job.root is None else {"name": "folder", "root": str(job.root)}
    sections = {"prompt": config.prompt.model_dump(), "optimizer": optimizer, "model": {"name": job.model}}
    return job.point, run(configure(job.task, job.seed, job.queries, task=task, **sections))


def main(options: Options) -> int:
    """Measure the grid; exit code."""
    method, tasks, seeds, queries = options.method, options.tasks, options.seeds, options.queries
    points = list(itertools.product(*GRIDS[method].values()))
    if options.quick:
        tasks, seeds, queries, points = ("digits",), options.seeds[:1], 200, points[::4]
    tasks = tasks if options.root is None else (options.root.name,)
    jobs = [
        Job(method, point, task, seed, queries, options.model, options.root)
        for point in points
        for task in tasks
        for seed in seeds
    ]
    found: dict[Point, list[Figures]] = defaultdict(list)
    for point, figures in parallel(measure, jobs, options.processes):
        found[point].append(figures)
    accuracy = {point: float(np.mean([f.validation for f in found[point]])) for point in points}
    loss = {point: float(np.mean([f.validation_loss for f in found[point]])) for point in points}
    chosen = max(points, key=lambda point: (accuracy[point], -loss[point]))
    rows = [
        [
            *(f"{x:g}" for x in point),
            f"{accuracy[point]:.1%}",
            f"{loss[point]:.4f}",
            "chosen" if point == chosen else "",
        ]
        for point in points
    ]
    text = table([*GRIDS[method], "validation accuracy", "validation loss", ""], rows)
    head = f"{queries} queries, tasks {', '.join(tasks)}, seeds {', '.join(map(str, seeds))}, {machine()}"
    print(f"{head}\n\n{text}\n")
    if options.write:
        write(method, f"{head}\n\n{text}")
    optimizer = shipped(method).optimizer
    wanted = tuple(float(getattr(optimizer, field)) for field in GRIDS[method])
    print(f"chosen ({', '.join(GRIDS[method])}): {chosen}; in {file_of(method).name} (wanted): {wanted}")
    return int(options.check and chosen != wanted)


def write(method: Method, text: str) -> None:
    """docs/measurements/gains-METHOD.md."""
    note = f"Made by `python benchmarks/gains.py --method {method} --write`; the choice is in {file_of(method).name}."
    (MEASUREMENTS / f"gains-{method}.md").write_text(
        f"# The gains of {method} for the shipped model\n\n{note}\n\n{text}\n"
    )


def file_of(method: Method) -> Path:
    """The config that carries the choice."""
    return ROOT / "configs" / "methods" / f"{method}-tuned.yaml"


def shipped(method: Method) -> Config:
    """The method's tuned file, as a config."""
    return load_config(file_of(method))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
