"""Accuracy against wall-clock time on many actors, by method: `python benchmarks/rounds.py --help`.

Time is virtual: actors take 50 ms per query, and the answers are those of the real scorer (see `virtual_time`). So
hundreds of actors need no processes, and the figures are the same every time. The driver's own time is not counted:
benchmarks/driver.py measures it.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, ROOT, BenchmarkOptions, configure, parallel, table
from benchmarks.curves import Curve, Look, follow, seconds_to
from benchmarks.kept_classes import kept_table, reach
from benchmarks.late_answers import LATE_NOTE, PASS_SECONDS, close_early, late_table
from benchmarks.virtual_time import Remembering, VirtualPool
from zip_ray.config.reading import load_config
from zip_ray.config.tree import Config
from zip_ray.pool.contract import ScorerLike
from zip_ray.pool.split_planner import Partition, choose, whole_of
from zip_ray.scorer.scorer import build_scorer

JUDGED, WANTED = 128, 50.0
"""Actors, and how many times sooner than synchronous ZIP gauss-newton is then where ZIP gets."""
EVERY = 100
"""Queries between two looks at the test accuracy; of gauss-newton, whose round has 12 or more, eight rounds."""
ZIP, GAUSS_NEWTON = "ZIP, synchronous", "gauss-newton"
FILES = {ZIP: "zip-tuned", "ZIP, asynchronous": "zip-tuned", "BBT": "bbt", GAUSS_NEWTON: "gauss-newton"}
"""Under configs/methods, by method."""
COLOURS = dict(zip(FILES, ("#0072B2", "#56B4E9", "#E69F00", "#D55E00"), strict=True))


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Test accuracy against seconds by actors; wanted at 128: gauss-newton 50 times sooner than ZIP."""

    task: str = "digits"
    """Built-in task."""
    seed: int = 1
    """Of the runs."""
    queries: int = 5000
    """Budget of ZIP and BBT."""
    scored: int = 1000
    """Budget of gauss-newton, whose queries return class scores."""
    actors: tuple[int, ...] = (1, 4, 16, 64, 128, 256)
    """Simulated ones."""
    kept: tuple[int, ...] = (2, 4, 8, 16)
    """Classes kept per image, beside all."""
    kept_task: str = "letter"
    """Of the runs with few classes kept."""
    kept_seeds: tuple[int, ...] = (101, 102)
    """Of those runs."""
    kept_queries: int = 500
    """Budget of each."""
    late_tasks: tuple[str, ...] = ("digits", "street", "letter")
    """Of the runs whose rounds close early."""
    late_seeds: tuple[int, ...] = (101, 102)
    """Of those runs."""
    late_queries: int = 1000
    """Budget of each."""


def configure_method(method: str, actors: int, options: Options) -> Config:
    """As the method's file has it; the asynchronous ZIP with as many pairs in flight as there are actors."""
    shipped = load_config(ROOT / "configs" / "methods" / f"{FILES[method]}.yaml")
    asynchronous = {"mode": "async", "in_flight": actors} if method == "ZIP, asynchronous" else {}
    return configure(
        options.task,
        options.seed,
        options.scored if method == GAUSS_NEWTON else options.queries,
        prompt=shipped.prompt.model_dump(),
        optimizer=shipped.optimizer.model_dump(),
        validation=shipped.validation.model_dump(),
        execution=asynchronous,
        cluster={"actors": actors},
        readout="none",
        output={"checkpoint_every_steps": max(1, EVERY // shipped.optimizer.queries_per_step)},
    )


def race(job: tuple[str, Options]) -> dict[int, Curve]:
    """Curves of a method by actors."""
    method, options = job
    scorer = Remembering(build_scorer(configure_method(method, 1, options)))
    return {actors: run(configure_method(method, actors, options), scorer, actors) for actors in options.actors}


def run(config: Config, scorer: ScorerLike, actors: int) -> Curve:
    """One run in virtual time, from its survey on."""
    return follow(config, scorer, VirtualPool(scorer, actors, PASS_SECONDS, *split(config, scorer, actors)))


def split(config: Config, scorer: ScorerLike, actors: int) -> tuple[Partition, float]:
    """How passes are split, as `execution.split: auto` does it, and the share that shards repeat; those of
    gauss-newton are whole."""
    whole = whole_of(config, scorer.facts())
    if config.optimizer.wants_scores:
        return Partition(over=whole.over), whole.repeated
    seconds = PASS_SECONDS * config.optimizer.queries_per_ask
    synchronous = config.execution.mode == "sync"
    return choose(actors, seconds, whole, config.asks_in_flight, synchronous)[0], whole.repeated


def main(options: Options) -> int:
    """Measure; exit code."""
    if options.quick:
        small = {"queries": 40, "scored": 60, "actors": (1, 4), "kept": (2,), "kept_seeds": (101,), "kept_queries": 80}
        small |= {"kept_task": "digits", "late_tasks": ("digits",), "late_seeds": (101,), "late_queries": 60}
        options = replace(options, **small)
    curves = dict(zip(FILES, parallel(race, [(method, options) for method in FILES], options.processes), strict=True))
    target = curves[ZIP][options.actors[0]][-1].accuracy
    times = {(m, n): seconds_to(target, curves[m][n]) for m in FILES for n in options.actors}
    rows = [[method, *(cell(times[method, n], curves[method][n][-1]) for n in options.actors)] for method in FILES]
    text = table(["actors", *map(str, options.actors)], rows)
    head = (
        f"{options.task}, seed {options.seed}; {options.queries:,} queries, gauss-newton {options.scored:,}; target: "
        f"{100 * target:.1f}% of the test images, what synchronous ZIP has at its end"
    )
    counts = [*options.kept, None]
    jobs = [(options.kept_task, seed, options.kept_queries, count) for count in counts for seed in options.kept_seeds]
    reached = {(job[3], job[1]): one for job, one in zip(jobs, parallel(reach, jobs, options.processes), strict=True)}
    kept = (
        f"{options.kept_task}, gauss-newton without a readout, {options.kept_queries} queries, seeds "
        f"{', '.join(map(str, options.kept_seeds))}; the iterate with the lowest validation loss:\n\n"
        f"{kept_table(reached, counts, options.kept_seeds)}"
    )
    late_jobs = [(task, seed, options.late_queries) for task in options.late_tasks for seed in options.late_seeds]
    late = (
        f"{', '.join(options.late_tasks)}, seeds {', '.join(map(str, options.late_seeds))}, {options.late_queries:,} "
        f"queries, {late_table(list(parallel(close_early, late_jobs, options.processes)))}"
    )
    print(f"{head}\n\n{text}\n\n{kept}\n\n{late}\n")
    if options.write:
        write(f"{head}\n\n{text}", kept, late, curves, options)
    judged = JUDGED if JUDGED in options.actors else options.actors[-1]
    sooner = times[ZIP, judged] / max(times[GAUSS_NEWTON, judged], PASS_SECONDS)
    print(f"{judged} actors: gauss-newton {sooner:.0f} times sooner than synchronous ZIP (wanted {WANTED:.0f})")
    return int(options.check and sooner < WANTED)


def cell(seconds: float, end: Look) -> str:
    """Seconds to the target, and the accuracy at the end."""
    reached = f"{seconds:.2f}" if seconds < float("inf") else "never"
    return f"{reached}; {100 * end.accuracy:.1f}"


def write(text: str, kept: str, late: str, curves: dict[str, dict[int, Curve]], options: Options) -> None:
    """docs/measurements/rounds.md and docs/measurements/rounds.png."""
    note = (
        "Made by `python benchmarks/rounds.py --write`: seconds until the latest iterate classifies as many test "
        f"images correctly as synchronous ZIP does at its end. Actors take {1000 * PASS_SECONDS:.0f} ms per query, in "
        "virtual time, and so does a validation; the answers are those of the small CLIP. The driver's own time is not "
        "counted (see [the driver](driver.md)). ZIP with the gains of configs/methods/zip-tuned.yaml, asynchronously "
        "with as many pairs in flight as there are actors; BBT as in configs/methods/bbt.yaml; both with passes split "
        "as `execution.split: auto` does it. gauss-newton without a readout, its passes whole, rounds as large as the "
        "planner makes them; its survey of the templates is part of its time. Beside the seconds: test accuracy at the "
        f"end of the budget, %. It is looked at every {EVERY} queries, of gauss-newton after every eighth round and "
        "at the end, so that its seconds are upper bounds."
    )
    picture = "![Test accuracy against seconds](rounds.png)"
    (MEASUREMENTS / "rounds.md").write_text(
        f"# Accuracy against time on many actors\n\n{note}\n\n{text}\n\n{picture}\n\n"
        "## Classes whose scores travel\n\nWith many classes each image keeps the scores of its own and of its "
        f"strongest rivals at the start; the others are pooled.\n\n{kept}\n\n"
        f"## Rounds that close early\n\n{LATE_NOTE}\n\n{late}\n"
    )
    draw(MEASUREMENTS / "rounds.png", curves, options)


def draw(path: Path, curves: dict[str, dict[int, Curve]], options: Options) -> None:
    """One panel per number of actors, one line per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, -(-len(options.actors) // 2), squeeze=False, sharey=True).flat
    for axes, actors in zip(panels, options.actors, strict=False):
        for method, curve in curves.items():
            seconds = [max(look.seconds, PASS_SECONDS) for look in curve[actors]]
            axes.step(
                seconds,
                [100 * look.accuracy for look in curve[actors]],
                where="post",
                color=COLOURS[method],
                label=method,
            )
        axes.set_xscale("log")
        axes.set_title(f"actors: {actors}")
        axes.set_xlabel("seconds")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.axes[0].legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
