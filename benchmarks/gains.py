"""Choose the gains a and c for the shipped model, on validation images: `python benchmarks/gains.py --help`.

Every choice of gains tunes every task from the words of its plain template; the one with the highest validation
accuracy of the last iterate, mean over tasks and seeds, is taken (of equals, the one with the lowest validation loss).
Test images take no part.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import DOCS, TASKS, BenchmarkOptions, Figures, configure, machine, parallel, run, table
from zip_ray.config import Config, load_config


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Grid of gains a, c and pairs a step, judged on validation images; wanted: those in configs/quickstart.yaml."""

    queries: int = 5000
    """Budget of a run."""
    seeds: tuple[int, ...] = (101, 102, 103)
    """Seeds of the grid; the figures in docs/accuracy.md use others."""
    a: tuple[float, ...] = (0.01, 0.02, 0.05)
    """Step sizes."""
    c: tuple[float, ...] = (0.01, 0.03)
    """Perturbation scales."""
    pairs: tuple[int, ...] = (1, 5)
    """Pairs a step."""


Point = tuple[float, float, int]


def measure(job: tuple[Point, str, int, int]) -> tuple[Point, Figures]:
    """One run of the grid."""
    (a, c, pairs), task, seed, queries = job
    optimizer = {"a": a, "c": c, "pairs_per_step": pairs}
    return job[0], run(configure(task, seed, queries, prompt=shipped().prompt.model_dump(), optimizer=optimizer))


def main(options: Options) -> int:
    """Measure the grid; exit code."""
    tasks, seeds, queries, steps = TASKS, options.seeds, options.queries, options.a
    if options.quick:
        tasks, seeds, queries, steps = ("digits",), options.seeds[:1], 200, options.a[:2]
    points = [(a, c, k) for k in options.pairs for c in options.c for a in steps]
    jobs = [(point, task, seed, queries) for point in points for task in tasks for seed in seeds]
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
    text = table(["a", "c", "pairs a step", "validation accuracy", "validation loss", ""], rows)
    head = f"{queries} queries, tasks {', '.join(tasks)}, seeds {', '.join(map(str, seeds))}, {machine()}"
    print(f"{head}\n\n{text}\n")
    if options.write:
        note = (
            "Made by `python benchmarks/gains.py --write`. The published gains (a = 0.01, c = 0.01, 5 pairs) are a row."
        )
        (DOCS / "gains.md").write_text(f"# The gains of the shipped model\n\n{note}\n\n{head}\n\n{text}\n")
    optimizer = shipped().optimizer
    wanted = optimizer.a, optimizer.c, optimizer.pairs_per_step
    print(f"chosen (a, c, pairs a step): {chosen}; in configs/quickstart.yaml (wanted): {wanted}")
    return int(options.check and chosen != wanted)


def shipped() -> Config:
    """The config that carries the choice."""
    return load_config(DOCS.parent / "configs" / "quickstart.yaml")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
