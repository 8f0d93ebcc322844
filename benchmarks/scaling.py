"""Queries per second against the ideal, by number of actors: `python benchmarks/scaling.py --help`.

Simulated scorers take a fixed time per pass; actors, calls and driver are real, and so are the scorers of the last
rows.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, ROOT, BenchmarkOptions, machine, parallel, run, table
from benchmarks.simulated import TimedScorer, configure, pool, queries_per_second
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.reading import load_config
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState
from zip_ray.prompts import make_space
from zip_ray.runs.plotting import GREY, legend_below, looks, new_figure, plain_numbers, png
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState

Found = dict[tuple[int, int, int], float]
"""Share of the ideal, by actors, milliseconds per pass and pairs in flight per actor."""
WANTED = {64: 0.97, 256: 0.95}
"""Share of the ideal, by actors."""
SEATS = 16
"""Simulated scorers in one process, where there are more than 64."""
PROCESSES = 64
REAL_IN_FLIGHT = 4
"""Pairs per actor, where the scorers are real."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Efficiency of the pool in asynchronous mode; wanted: 97% at 64 actors and 95% at 256."""

    actors: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Numbers of actors; one process each up to 64, 16 scorers per process above."""
    milliseconds: tuple[int, ...] = (50, 200)
    """Service times of a pass."""
    in_flight: tuple[int, ...] = (4, 16, 32)
    """Pairs in flight per actor. Passes share calls, up to 16 in each, to spare the driver."""
    seconds: float = 15.0
    """Measured time of a row, after a third of it that does not count."""


def simulated(actors: int, service: float, in_flight: Sequence[int], seconds: float) -> list[float]:
    """Queries per second of simulated scorers, by pairs in flight, after a warm-up of `seconds / 3`."""
    skip = seconds / 3
    with pool(partial(TimedScorer, service), actors, seats=1 if actors <= PROCESSES else SEATS) as opened:
        configs = [configure(skip + seconds, mode="async", in_flight=each * actors) for each in in_flight]
        return [queries_per_second(config, opened, skip) for config in configs]


def real(actors: int, queries: int) -> float:
    """Queries per second of the quickstart in asynchronous mode, its small CLIP on so many actors."""
    shipped = load_config(ROOT / "configs" / "methods" / "zip-tuned.yaml")
    execution = shipped.execution.model_copy(update={"mode": "async", "in_flight": REAL_IN_FLIGHT * actors})
    cluster = shipped.cluster.model_copy(update={"actors": (actors, actors), "address": "local"})
    budget = shipped.budget.model_copy(update={"queries": queries})
    config = shipped.model_copy(update={"execution": execution, "cluster": cluster, "budget": budget})
    opened = RayPool(partial(build_scorer, config), config.cluster)
    try:
        space = make_space(config.prompt, opened.facts().shape, config.seed)
        state = RunState(OptimizerState(space.initial()))
        end = Tuning(config, opened, state, lambda _: None, lambda _: None).run().state
        return end.account.charged / end.seconds
    finally:
        opened.close()


def lone(config: Config) -> float:
    """Queries per second of a run in this process, with neither actors nor a second thread."""
    torch.set_num_threads(1)
    figures = run(config)
    return figures.queries / figures.seconds


def apart(processes: int, queries: int) -> float:
    """Queries per second of so many runs side by side that share nothing but the machine."""
    config = load_config(ROOT / "configs" / "methods" / "zip-tuned.yaml")
    budget, cluster = {"queries": queries}, {"pool": "in-process"}
    alike = config.model_copy(
        update={"budget": config.budget.model_copy(update=budget), "cluster": config.cluster.model_copy(update=cluster)}
    )
    return sum(parallel(lone, [alike] * processes, processes))


def main(options: Options) -> int:
    """Measure; exit code."""
    counts, services, seconds = options.actors, options.milliseconds, options.seconds
    together, queries = (1, 2), 4000
    if options.quick:
        counts, services, seconds, together, queries = (2,), (50,), 1.0, (1,), 60
    found, rows = {}, []
    for milliseconds, actors in product(services, counts):
        ideal = 2 * actors * 1000 / milliseconds
        where = "own processes" if actors <= PROCESSES else f"{SEATS} per process"
        rates = simulated(actors, milliseconds / 1000, options.in_flight, seconds)
        for out, rate in zip(options.in_flight, rates, strict=True):
            found[actors, milliseconds, out] = rate / ideal
            figures = [f"{ideal:.0f}", f"{rate:.0f}", f"{rate / ideal:.1%}"]
            rows.append([f"{milliseconds} ms, {where}", str(actors), str(out), *figures])
    for label, out, measure in (
        ("small CLIP", str(REAL_IN_FLIGHT), real),
        ("small CLIP, runs without Ray that share nothing", "", apart),
    ):
        rates = [measure(count, queries) for count in together]
        for count, rate in zip(together, rates, strict=True):
            ideal = count * rates[0]
            rows.append([label, str(count), out, f"{ideal:.0f}", f"{rate:.0f}", f"{rate / ideal:.1%}"])
    text = table(
        ["a pass takes", "actors", "pairs in flight per actor", "ideal queries/s", "queries/s", "of ideal"], rows
    )
    head = f"Asynchronous mode; driver and actors on the same {machine()}"
    print(f"{head}\n\n{text}\n")
    if options.write:
        title = "# Queries per second by actors\n\nMade by `python benchmarks/scaling.py --write`."
        (MEASUREMENTS / "scaling.md").write_text(f"{title}\n\n{head}\n\n{text}\n\n![Measured and ideal](scaling.png)\n")
        draw(MEASUREMENTS / "scaling.png", found)
    lowest = {n: lowest_of_best(found, n) for n in WANTED}
    said = [f"{n} actors: {got:.1%} (wanted {WANTED[n]:.0%})" for n, got in lowest.items() if got is not None]
    print("; ".join(said) or "the wanted figures are of 64 and 256 actors: not measured")
    return int(options.check and any(got is not None and got < WANTED[n] for n, got in lowest.items()))


def lowest_of_best(found: Found, actors: int) -> float | None:
    """Efficiency at the worst service time, each with its best number in flight; None if not measured."""
    best: dict[int, float] = {}
    for (count, milliseconds, _), share in found.items():
        if count == actors:
            best[milliseconds] = max(share, best.get(milliseconds, 0.0))
    return min(best.values(), default=None)


def draw(path: Path, found: Found) -> None:
    """Times the speed of one actor, against the number of actors."""
    figure = new_figure(5, 4.8)
    axes = figure.add_subplot()
    counts, services, outs = (sorted({key[part] for key in found}) for part in range(3))
    axes.plot(counts, counts, color=GREY, linewidth=1, label="ideal")
    lines = {f"{service} ms per pass, {out} pairs each": (service, out) for service, out in product(services, outs)}
    for label, look in looks(lines).items():
        axes.plot(counts, [actors * found[(actors, *lines[label])] for actors in counts], **look)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    plain_numbers(axes)
    axes.set_xlabel("actors")
    axes.set_ylabel("speed, in actors")
    axes.grid(alpha=0.3)
    legend_below(figure)
    path.write_bytes(png(figure, 130))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
