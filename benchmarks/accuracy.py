"""Zero-shot against ZIP, over tasks and seeds: `python benchmarks/accuracy.py --help`."""

import sys
from dataclasses import dataclass
from pathlib import Path

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
    peak_mebibytes,
    run,
    table,
)
from zip_ray.config.reading import load_config
from zip_ray.config.tree import Config
from zip_ray.runs.plotting import GREY, legend_below, looks, new_figure, png

WANTED_GAIN = 8.0
"""Points over zero-shot with the same template on digits, from the template's words, mean over seeds."""
WANTED_FLOOR = -1.0
"""Points against zero-shot on any task, from the template's words, mean over seeds."""
SETTINGS = {"published": "published.yaml", "template's words": "methods/zip-tuned.yaml"}


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Test accuracy of ZIP as published, and from the template's words with the shipped model's gains."""

    queries: int = 5000
    """Budget of a run."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """One run each."""


Key = tuple[str, str]
"""Setting and task."""


def config_of(setting: str, task: str, seed: int, queries: int) -> Config:
    """A run of this benchmark: a shipped config on another task."""
    config = load_config(ROOT / "configs" / SETTINGS[setting])
    sections = {name: getattr(config, name).model_dump() for name in ("prompt", "optimizer")}
    return configure(task, seed, queries, **sections, task={**config.task.model_dump(), "name": task})


def measure(job: tuple[str, str, int, int]) -> tuple[Key, Figures, float]:
    """One run, and the peak memory of the process that did it."""
    setting, task, _, _ = job
    return (setting, task), run(config_of(*job)), peak_mebibytes()


def main(options: Options) -> int:
    """Measure; exit code."""
    tasks, seeds, queries = TASKS, options.seeds, options.queries
    if options.quick:
        tasks, seeds, queries = TASKS[:1], seeds[:1], 100
    jobs = [(setting, task, seed, queries) for setting in SETTINGS for task in tasks for seed in seeds]
    found: dict[Key, list[Figures]] = {(setting, task): [] for setting in SETTINGS for task in tasks}
    peak = 0.0
    for key, figures, memory in parallel(measure, jobs, options.processes):
        found[key].append(figures)
        peak = max(peak, memory)
    text = table(
        ["setting", "task", "zero-shot", "ZIP, mean", "deviation", "seeds", "gain", "seconds", "queries/s"],
        [row(key, runs) for key, runs in found.items()],
    )
    head = (
        f"{queries} queries, seeds {', '.join(map(str, seeds))}, {options.processes} runs at a time, one thread each, "
        f"peak memory of a run's process {peak:.0f} MiB, {machine()}"
    )
    print(f"{head}\n\n{text}\n")
    if options.write:
        write(head, text, found)
    words = {task: float(np.mean([f.gain for f in runs])) for (s, task), runs in found.items() if s != "published"}
    floor = min(words.values())
    reached = words["digits"] >= WANTED_GAIN and floor >= WANTED_FLOOR
    print(f"gain on digits {words['digits']:+.1f} (wanted {WANTED_GAIN:+.1f}), lowest gain {floor:+.1f} (wanted -1.0)")
    return int(options.check and not reached)


def row(key: Key, runs: list[Figures]) -> list[str]:
    """A row of the table; every seed is shown."""
    tuned = [100 * f.tuned for f in runs]
    seconds = float(np.mean([f.seconds for f in runs]))
    return [
        *key,
        f"{100 * runs[0].zero_shot:.1f}%",
        f"{np.mean(tuned):.1f}%",
        f"{np.std(tuned, ddof=1):.1f}" if len(tuned) > 1 else "",
        ", ".join(f"{t:.1f}" for t in tuned),
        f"{np.mean([f.gain for f in runs]):+.1f}",
        f"{seconds:.0f}",
        f"{runs[0].queries / seconds:.0f}",
    ]


def write(head: str, text: str, found: dict[Key, list[Figures]]) -> None:
    """Write docs/measurements/accuracy.md and docs/measurements/accuracy.png."""
    note = (
        "Made by `python benchmarks/accuracy.py --write`. Zero-shot is the task's plain template. `published` is "
        "configs/published.yaml (random context, a = 0.01, random crops); `template's words` is "
        "configs/methods/zip-tuned.yaml, whose gains docs/measurements/gains-zip.md chose on validation images of "
        "other seeds. A random crop of 8 to 100% of an image cuts small digits away, and much of whatever else an "
        "image of 32 pixels shows."
    )
    picture = "![Test accuracy by task](accuracy.png)"
    (MEASUREMENTS / "accuracy.md").write_text(f"# Zero-shot against ZIP\n\n{note}\n\n{head}\n\n{text}\n\n{picture}\n")
    draw(MEASUREMENTS / "accuracy.png", found)


def draw(path: Path, found: dict[Key, list[Figures]]) -> None:
    """Draw a point per seed and a dash for zero-shot."""
    figure = new_figure(8, 4.8)
    axes = figure.add_subplot()
    tasks = list(dict.fromkeys(task for _, task in found))
    for offset, (setting, look) in enumerate(looks(SETTINGS).items()):
        for place, task in enumerate(tasks):
            runs = found[setting, task]
            x = [place - 0.12 + 0.24 * offset] * len(runs)
            label = f"ZIP, {setting}" if place == 0 else None
            axes.scatter(
                x, [100 * f.tuned for f in runs], color=look["color"], marker=look["marker"], label=label, zorder=3
            )
            if offset:
                label = "zero-shot, plain template" if place == 0 else None
                axes.hlines(100 * runs[0].zero_shot, place - 0.3, place + 0.3, color=GREY, label=label)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_ylabel("test accuracy (%), one point per seed")
    axes.grid(axis="y", alpha=0.3)
    legend_below(figure)
    path.write_bytes(png(figure, 130))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
