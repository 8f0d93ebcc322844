"""What pairs in flight cost in queries: `python benchmarks/staleness.py --help`.

A delay is simulated exactly: one scorer answers in the order of asking, so with n pairs in flight every answer is
n - 1 pairs old. No cluster is needed. The last row is what 32 actors do by default: 8 pairs in flight, each split in
the layout that the planner chooses for so many actors.

Policies that were tried at 32 pairs in flight, and were not within 10% of one pair (queries on digits, texture, letter;
one pair 1200, 417, 441; 32 pairs 2100, 587, 821):
- a stability constant of 32 or 100 in the step size (Spall 1998): 1457, 808, 1019; 1464, 1025, 1259
- answers weighted by 1 / (1 + staleness / 32) (Zhang et al. 2016, "Staleness-aware async-SGD"): 3017, never, never
- four answers averaged in an update (Dekel et al. 2012), a = 0.02 or 0.04: 4112, 3984, 1465; 3903, 571, 2272
- eight averaged, a = 0.06: 4235, 857, 2077
- a smaller step, a = 0.007 (steps by delay: Agarwal and Duchi 2011): 1760, 1321, 1110
- a larger one with the constant 32, a = 0.015 or 0.02: 2506, 412, 863; 3345, 342, 1256
So more actors do not get more pairs, but parts of them: sides and class shards add no staleness.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, ROOT, BenchmarkOptions, configure, machine, parallel, table
from zip_ray.config.execution import ExecutionConfig
from zip_ray.config.reading import load_config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.contract import Pool
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.split_planner import Whole, choose
from zip_ray.pool.splitting import SplitPool
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Evaluation, Priority, new_work
from zip_ray.runs.plotting import legend_below, looks, new_figure, plain_numbers, png
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState

WANTED_COST = 1.10
"""Queries to the target with 32 works in flight, as the defaults have them, over those with one pair."""
ACTORS = 32
PASS_SECONDS = 0.05
"""Seconds per pass of the model for which the planner lays out so many actors; with much shorter passes, fewer
actors are as fast."""
DEFAULT = ExecutionConfig().in_flight
"""Pairs in flight by default, whatever the number of actors."""
SHARE = 0.75
"""Target, as a share of the gain that the queries bring without delay."""
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


@dataclass(frozen=True)
class Way:
    """What is in flight at once."""

    pairs: int
    planned: bool = False
    """Whether passes are split as the planner does it for `ACTORS`."""

    def __str__(self) -> str:
        return f"{ACTORS} actors, by default: {self.pairs} pairs in parts" if self.planned else str(self.pairs)


AS_SHIPPED = Way(DEFAULT, planned=True)


def measure(job: tuple[str, int, Way, Options]) -> Curve:
    """Test accuracy at regular numbers of queries, starting at zero."""
    task, seed, way, options = job
    shipped = load_config(ROOT / "configs" / "methods" / "zip-tuned.yaml")
    config = configure(
        task,
        seed,
        options.queries,
        prompt=shipped.prompt.model_dump(),
        optimizer={**shipped.optimizer.model_dump(), "pairs_per_step": options.pairs_per_step},
        execution={"mode": "async", "in_flight": way.pairs},
        output={"checkpoint_every_steps": EVERY // 2 // options.pairs_per_step},
        validation={"every_queries": options.queries},
    )
    scorer = build_scorer(config)
    space = make_space(config.prompt, scorer.facts().shape, config.seed)
    start = RunState(OptimizerState(space.initial()))
    states = [start]
    pool: Pool = InProcessPool(lambda: scorer)
    if way.planned:
        classes = Whole("classes", len(scorer.facts().classnames))
        partition, _ = choose(ACTORS, PASS_SECONDS, classes, DEFAULT, synchronous=False)
        execution = config.execution.model_copy(update={"split": (partition.sides, partition.shards)})
        pool = SplitPool(pool, config.model_copy(update={"execution": execution}))
    Tuning(config, pool, start, lambda _: None, states.append).run()
    tests = {s.account.charged: new_work(Evaluation("test", s.optimizer.w), Priority.EVALUATION) for s in states}
    found = {queries: scorer.answer(work).accuracy for queries, work in tests.items()}
    return np.interp(np.arange(0, options.queries + 1, EVERY), list(found), list(found.values()))


def queries_to(target: float, curve: Curve) -> float:
    """Queries until the curve reaches the target, interpolated between two tests; infinite if it never does."""
    highest = np.maximum.accumulate(curve)
    if highest[-1] < target:
        return float("inf")
    return float(np.interp(target, highest + 1e-9 * np.arange(len(curve)), EVERY * np.arange(len(curve))))


def main(options: Options) -> int:
    """Measure; exit code."""
    tasks, seeds, counts = options.tasks, options.seeds, options.in_flight
    if options.quick:
        tasks, seeds, counts = tasks[:1], seeds[:1], counts[:1]
        options = Options(**{**vars(options), "queries": 400})
    ways = [*map(Way, counts), AS_SHIPPED]
    jobs = [(task, seed, way, options) for task in tasks for way in ways for seed in seeds]
    runs = dict(zip([job[:3] for job in jobs], parallel(measure, jobs, options.processes), strict=True))
    curves = {(task, way): np.mean([runs[task, seed, way] for seed in seeds], axis=0) for task in tasks for way in ways}
    spent = {}
    for task in tasks:
        alone = curves[task, ways[0]]
        target = float(alone[0] + SHARE * (alone.max() - alone[0]))
        for way in ways:
            spent[task, way] = queries_to(target, curves[task, way])
    costs = {w: float(np.mean([spent[task, w] / max(spent[task, ways[0]], 1) for task in tasks])) for w in ways}
    rows = [row(way, tasks, seeds, spent, costs, runs) for way in ways]
    text = table(["in flight", *(f"{task}: queries, accuracy by seed" for task in tasks), "times the queries"], rows)
    head = (
        f"{options.queries} queries, {options.pairs_per_step} pairs per update, seeds {', '.join(map(str, seeds))}; "
        f"target: {SHARE:.0%} of what the mean of the seeds gains with {ways[0]} in flight; {machine()}"
    )
    print(f"{head}\n\n{text}\n")
    if options.write:
        write(head, text, curves, tasks, ways)
    cost = costs[AS_SHIPPED]
    print(f"{AS_SHIPPED}: {cost:.2f} times the queries of one pair in flight (wanted at most {WANTED_COST})")
    return int(options.check and cost > WANTED_COST)


def row(
    way: Way,
    tasks: Sequence[str],
    seeds: Sequence[int],
    spent: dict[tuple[str, Way], float],
    costs: dict[Way, float],
    runs: dict[tuple[str, int, Way], Curve],
) -> list[str]:
    """A line of the table; every seed is shown."""
    cells = []
    for task in tasks:
        ends = ", ".join(f"{100 * runs[task, seed, way][-1]:.1f}" for seed in seeds)
        cells.append(f"{spent[task, way]:.0f}; {ends}" if spent[task, way] < np.inf else f"never; {ends}")
    return [str(way), *cells, f"{costs[way]:.2f}"]


def write(
    head: str, text: str, curves: dict[tuple[str, Way], Curve], tasks: Sequence[str], ways: Sequence[Way]
) -> None:
    """docs/measurements/staleness.md and docs/measurements/staleness.png."""
    note = (
        "Made by `python benchmarks/staleness.py --write`: asynchronous mode with the settings of "
        "configs/methods/zip-tuned.yaml, queries until the mean of the seeds has reached the target, and test "
        "accuracy after 5,000 queries by seed. "
        "Sides and class shards (`execution.split`) add work in flight without staleness: the last row is what "
        f"{ACTORS} actors do by default, as the planner lays a pass of {1000 * PASS_SECONDS:.0f} ms out for them."
    )
    picture = "![Test accuracy against queries](staleness.png)"
    (MEASUREMENTS / "staleness.md").write_text(
        f"# The cost of pairs in flight\n\n{note}\n\n{head}\n\n{text}\n\n{picture}\n"
    )
    draw(MEASUREMENTS / "staleness.png", curves, tasks, ways)


def draw(path: Path, curves: dict[tuple[str, Way], Curve], tasks: Sequence[str], ways: Sequence[Way]) -> None:
    """One panel per task, one line per configuration."""
    figure = new_figure(4 * len(tasks), 4)
    styles = looks(f"{ACTORS} actors, default" if way.planned else f"{way.pairs} in flight" for way in ways).values()
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for way, look in zip(ways, styles, strict=True):
            curve = 100 * curves[task, way]
            axes.plot(EVERY * np.arange(len(curve)), curve, markevery=0.1, markersize=4, **look)
        plain_numbers(axes)
        axes.set_title(task)
        axes.set_xlabel("queries")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%), mean of seeds")
    legend_below(figure)
    path.write_bytes(png(figure, 130))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
