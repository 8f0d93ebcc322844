"""What pairs in flight cost in queries: `python benchmarks/staleness.py --help`.

A delay is simulated exactly: one scorer answers in the order of asking, so with n pairs in flight every answer is
n - 1 pairs old. No cluster is needed.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import DOCS, BenchmarkOptions, configure, machine, parallel, table
from zip_ray.checkpoint import RunState
from zip_ray.clip.scorer import build_scorer
from zip_ray.config import OptimizerConfig, load_config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.tuning import Tuning
from zip_ray.work import Evaluation

WANTED_COST = 1.10
"""Queries to the target with 32 works in flight, as the defaults have them, over those with one pair."""
WORKS = 32
DEFAULT = OptimizerConfig().in_flight
"""Pairs in flight by default: 32 works are 8 pairs, each in 2 sides and 2 shards, which add no staleness."""
SHARE = 0.75
"""Of what the queries gain without delay: the target."""
EVERY = 100
"""Queries between two looks at the test accuracy."""
Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Queries to a target accuracy by pairs in flight; wanted: 32 works in flight cost at most 10% more than one."""

    queries: int = 5000
    """Budget of a run."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """One run each."""
    tasks: tuple[str, ...] = ("digits", "texture", "letter")
    """Those that ZIP gains much on: where it gains nothing there is no target."""
    in_flight: tuple[int, ...] = (1, 8, 32, 64, 128)
    """Pairs out at once."""
    pairs_per_step: int = 1
    """K."""


def measure(job: tuple[str, int, int, Options]) -> Curve:
    """Test accuracy at every so many queries, from zero queries on."""
    task, seed, in_flight, options = job
    shipped = load_config(DOCS.parent / "configs" / "quickstart.yaml")
    changes = {"mode": "async", "in_flight": in_flight, "pairs_per_step": options.pairs_per_step}
    config = configure(
        task,
        seed,
        options.queries,
        prompt=shipped.prompt.model_dump(),
        optimizer={**shipped.optimizer.model_dump(), **changes},
        output={"checkpoint_every_steps": EVERY // 2 // options.pairs_per_step},
        validation={"every_queries": options.queries},
    )
    scorer = build_scorer(config)
    space = make_space(config, scorer.facts().shape)
    start = RunState(OptimizerState(space.initial()))
    states = [start]
    Tuning(config, InProcessPool(lambda: scorer), start, lambda _: None, states.append).run()
    found = {s.account.charged: scorer.answer(Evaluation(-1, "test", s.optimizer.w)).accuracy for s in states}
    return np.interp(np.arange(0, options.queries + 1, EVERY), list(found), list(found.values()))


def queries_to(target: float, curve: Curve) -> float:
    """Queries until the curve reaches the target, by a straight line between two looks; infinite if it never does."""
    highest = np.maximum.accumulate(curve)
    if highest[-1] < target:
        return float("inf")
    return float(np.interp(target, highest + 1e-9 * np.arange(len(curve)), EVERY * np.arange(len(curve))))


def main(options: Options) -> int:
    """Measure; exit code."""
    tasks, seeds, counts = options.tasks, options.seeds, options.in_flight
    if options.quick:
        tasks, seeds, counts = tasks[:1], seeds[:1], (1, DEFAULT)
        options = Options(**{**vars(options), "queries": 400})
    jobs = [(task, seed, n, options) for task in tasks for n in counts for seed in seeds]
    runs = dict(zip([job[:3] for job in jobs], parallel(measure, jobs, options.processes), strict=True))
    curves = {(task, n): np.mean([runs[task, seed, n] for seed in seeds], axis=0) for task in tasks for n in counts}
    spent = {}
    for task in tasks:
        alone = curves[task, counts[0]]
        target = float(alone[0] + SHARE * (alone.max() - alone[0]))
        for n in counts:
            spent[task, n] = queries_to(target, curves[task, n])
    costs = {n: float(np.mean([spent[task, n] / max(spent[task, counts[0]], 1) for task in tasks])) for n in counts}
    rows = [row(n, tasks, seeds, spent, costs, runs) for n in counts]
    text = table(["in flight", *(f"{task}: queries, accuracy by seed" for task in tasks), "times the queries"], rows)
    head = (
        f"{options.queries} queries, {options.pairs_per_step} pairs an update, seeds {', '.join(map(str, seeds))}; "
        f"target: {SHARE:.0%} of what the mean of the seeds gains with {counts[0]} in flight; {machine()}"
    )
    print(f"{head}\n\n{text}\n")
    if options.write:
        write(head, text, curves, tasks, counts)
    cost = costs[DEFAULT]
    layout = f"{DEFAULT} pairs x {WORKS // DEFAULT} sides and shards"
    print(f"{WORKS} works in flight ({layout}) take {cost:.2f} times the queries of one pair (wanted {WANTED_COST})")
    return int(options.check and cost > WANTED_COST)


def row(
    n: int,
    tasks: Sequence[str],
    seeds: Sequence[int],
    spent: dict[tuple[str, int], float],
    costs: dict[int, float],
    runs: dict[tuple[str, int, int], Curve],
) -> list[str]:
    """A line of the table; every seed is shown."""
    cells = []
    for task in tasks:
        ends = ", ".join(f"{100 * runs[task, seed, n][-1]:.1f}" for seed in seeds)
        cells.append(f"{spent[task, n]:.0f}; {ends}" if spent[task, n] < np.inf else f"never; {ends}")
    return [str(n), *cells, f"{costs[n]:.2f}"]


def write(
    head: str, text: str, curves: dict[tuple[str, int], Curve], tasks: Sequence[str], counts: Sequence[int]
) -> None:
    """docs/staleness.md and docs/staleness.png."""
    note = (
        "Made by `python benchmarks/staleness.py --write`: asynchronous mode with configs/quickstart.yaml's settings, "
        "queries until the mean of the seeds has reached the target, and test accuracy after 5,000 queries by seed. "
        "Sides and class shards (`model.parallel`) add works in flight without staleness: they are not in the table."
    )
    picture = "![Test accuracy against queries](staleness.png)"
    (DOCS / "staleness.md").write_text(f"# What pairs in flight cost\n\n{note}\n\n{head}\n\n{text}\n\n{picture}\n")
    draw(DOCS / "staleness.png", curves, tasks, counts)


def draw(path: Path, curves: dict[tuple[str, int], Curve], tasks: Sequence[str], counts: Sequence[int]) -> None:
    """A panel a task, a line a number of pairs in flight."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(tasks), 3.5), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for place, n in enumerate(counts):
            curve = 100 * curves[task, n]
            colour = colormaps["viridis"](place / len(counts))
            axes.plot(EVERY * np.arange(len(curve)), curve, color=colour, label=f"{n} in flight")
        axes.set_title(task)
        axes.set_xlabel("queries")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%), mean of seeds")
    figure.axes[0].legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
