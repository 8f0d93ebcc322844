"""Accuracy against wall-clock time on many actors, by method: `python benchmarks/rounds.py --help`.

Time is virtual: actors take 50 ms per query, and the answers are those of the real scorer (see `virtual_time`). So
hundreds of actors need no processes, and the figures are the same every time. The driver's own time is not counted:
benchmarks/driver.py measures it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, ROOT, BenchmarkOptions, configure, parallel, table
from benchmarks.curves import Curve, Look, follow, seconds_to
from benchmarks.kept_classes import kept_table, reach
from benchmarks.late_answers import LATE_NOTE, PASS_SECONDS, close_early, late_table
from benchmarks.virtual_time import Remembering, VirtualPool
from benchmarks.widths import DEADLINE_NOTE, RACERS, WIDTH_NOTE, deadline_table, meet, widen, width_table
from zip_ray.config.reading import load_config
from zip_ray.config.tree import Config
from zip_ray.pool.contract import ScorerLike
from zip_ray.pool.split_planner import Partition, choose, whole_of
from zip_ray.runs.plotting import legend_below, looks, new_figure, plain_numbers, png
from zip_ray.scorer.scorer import build_scorer

JUDGED, WANTED = 128, 50.0
"""Actors, and how many times sooner than synchronous ZIP gauss-newton is then where ZIP gets."""
EVERY = 100
"""Queries between two looks at the test accuracy; of gauss-newton, whose round has 12 or more, eight rounds."""
ZIP, GAUSS_NEWTON = "ZIP, synchronous", "gauss-newton"
FILES = {ZIP: "zip-tuned", "ZIP, asynchronous": "zip-tuned", "BBT": "bbt", GAUSS_NEWTON: "gauss-newton"}
"""Under configs/methods, by method."""
KEPT_NOTE = (
    "With many classes each image keeps the scores of its own and of its strongest rivals at the start; the others are "
    "pooled."
)


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
    width_tasks: tuple[str, ...] = ("digits", "street", "letter", "inlay")
    """Of the runs with rounds of several widths."""
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Queries of a round, on as many actors."""
    width_queries: int = 2000
    """Budget of each."""
    deadline_tasks: tuple[str, ...] = ("digits", "street", "letter")
    """Of the runs with a budget of seconds alone."""
    deadlines: tuple[int, ...] = (30, 60, 300)
    """Seconds of virtual time."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of the runs by width and by deadline."""


def configure_method(method: str, actors: int, options: Options) -> Config:
    """A method's own file; asynchronous ZIP has as many pairs in flight as there are actors."""
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
    """Curves of a method by number of actors."""
    method, options = job
    scorer = Remembering(build_scorer(configure_method(method, 1, options)))
    return {actors: run(configure_method(method, actors, options), scorer, actors) for actors in options.actors}


def run(config: Config, scorer: ScorerLike, actors: int) -> Curve:
    """One run in virtual time, from its survey on."""
    return follow(config, scorer, VirtualPool(scorer, actors, PASS_SECONDS, *split(config, scorer, actors)))


def split(config: Config, scorer: ScorerLike, actors: int) -> tuple[Partition, float]:
    """How passes are split, as `execution.split: auto` does it, and the share that shards repeat;
    gauss-newton does not split."""
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
        small |= {
            "width_tasks": ("digits",),
            "widths": (16, 32),
            "width_queries": 80,
            "deadline_tasks": ("digits",),
            "deadlines": (2,),
        }
        small |= {"seeds": (1,)}
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
        f"{_listed(options.kept_seeds)}; the iterate with the lowest validation loss:\n\n"
        f"{kept_table(reached, counts, options.kept_seeds)}"
    )
    late_jobs = [(task, seed, options.late_queries) for task in options.late_tasks for seed in options.late_seeds]
    late = (
        f"{', '.join(options.late_tasks)}, seeds {_listed(options.late_seeds)}, {options.late_queries:,} "
        f"queries, {late_table(list(parallel(close_early, late_jobs, options.processes)))}"
    )
    wide, deadlines = compare_widths(options), compare_deadlines(options)
    print(f"{head}\n\n{text}\n\n{kept}\n\n{late}\n\n{wide}\n\n{deadlines}\n")
    if options.write:
        sections = {
            "Classes whose scores travel": f"{KEPT_NOTE}\n\n{kept}",
            "Rounds that close early": f"{LATE_NOTE}\n\n{late}",
            "Wide rounds": f"{WIDTH_NOTE}\n\n{wide}",
            "Budgets of seconds": f"{DEADLINE_NOTE}\n\n{deadlines}",
        }
        write(f"{head}\n\n{text}", sections, curves, options)
    judged = JUDGED if JUDGED in options.actors else options.actors[-1]
    sooner = times[ZIP, judged] / max(times[GAUSS_NEWTON, judged], PASS_SECONDS)
    print(f"{judged} actors: gauss-newton {sooner:.0f} times sooner than synchronous ZIP (wanted {WANTED:.0f})")
    return int(options.check and sooner < WANTED)


def cell(seconds: float, end: Look) -> str:
    """Seconds to the target, and the accuracy at the end."""
    reached = f"{seconds:.2f}" if seconds < float("inf") else "never"
    return f"{reached}; {100 * end.accuracy:.1f}"


def compare_widths(options: Options) -> str:
    """Queries to a target by the width of a round."""
    jobs = list(product(options.width_tasks, options.seeds, (options.width_queries,), (options.widths,)))
    found = list(zip(jobs, parallel(widen, jobs, options.processes), strict=True))
    by_task = {task: [curves for job, curves in found if job[0] == task] for task in options.width_tasks}
    return f"{options.width_queries:,} queries, seeds {_listed(options.seeds)}\n\n{width_table(by_task)}"


def compare_deadlines(options: Options) -> str:
    """Accuracy after so many seconds by method."""
    jobs = list(product(RACERS, options.deadline_tasks, options.seeds, options.deadlines))
    found = dict(zip(jobs, parallel(meet, jobs, options.processes), strict=True))
    return f"seeds {_listed(options.seeds)}\n\n{deadline_table(found, options.deadline_tasks, options.seeds)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def write(text: str, sections: dict[str, str], curves: dict[str, dict[int, Curve]], options: Options) -> None:
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
        f"# Accuracy against time on many actors\n\n{note}\n\n{text}\n\n{picture}\n"
        + "".join(f"\n## {title}\n\n{section}\n" for title, section in sections.items())
    )
    draw(MEASUREMENTS / "rounds.png", curves, options)


def draw(path: Path, curves: dict[str, dict[int, Curve]], options: Options) -> None:
    """One panel per number of actors, one line per method."""
    figure = new_figure(11, 6.4)
    panels = figure.subplots(2, -(-len(options.actors) // 2), squeeze=False, sharey=True).flat
    look = looks(curves)
    for axes, actors in zip(panels, options.actors, strict=False):
        for method, curve in curves.items():
            seconds = [max(look.seconds, PASS_SECONDS) for look in curve[actors]]
            axes.step(
                seconds,
                [100 * look.accuracy for look in curve[actors]],
                where="post",
                markevery=0.1,
                markersize=4,
                **look[method],
            )
        axes.set_xscale("log")
        plain_numbers(axes)
        axes.set_title(f"actors: {actors}")
        axes.set_xlabel("seconds")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%)")
    legend_below(figure)
    path.write_bytes(png(figure, 130))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
