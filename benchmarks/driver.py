"""What the driver can do: pairs per second with instant scorers, where its time goes, its memory over many queries.

`python benchmarks/driver.py --help`
"""

import cProfile
import gc
import pstats
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, table
from benchmarks.simulated import TimedScorer, configure, pool, tune
from zip_ray.config.threads import one_blas_thread
from zip_ray.optimizers import OptimizerState, Problem
from zip_ray.optimizers.base import Told
from zip_ray.optimizers.gauss_newton import GaussNewton, GaussNewtonOptions
from zip_ray.pool.contract import Pool
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.splitting import split_if_asked
from zip_ray.protocol.messages import AskResult
from zip_ray.runs.beginning import KEPT_CLASSES
from zip_ray.tuning.events import Event, StepEvent

WANTED_PAIRS = 3000
"""Pairs per second through real Ray calls, the best of the rows."""
WANTED_GROWTH = 5.0
"""MiB by which a driver may grow between the tenth and the last part of a million queries."""
WANTED_SHARE = 0.1
"""Driver's share of a round: of what its queries take."""
ROUND, ROUND_SECONDS = 128, 0.05
"""Queries of a round of gauss-newton, on as many actors, and the seconds that it takes them."""
CLASSES, SHOTS = 1000, 16
"""Classes and images per class of the task."""
IMAGES, DIMENSION = 128, 8 * 512
"""Images of a mini-batch, and parameters of a ViT-B/16's context of eight tokens."""
ROUNDS = 8
ACTORS = 4
SHARES = {
    "draw perturbations": ("perturbation",),
    "ask and tell, without drawing": ("ask", "tell"),
    "send (Ray)": ("_send",),
    "receive (Ray)": ("wait", "get"),
}
"""Functions of the driver by what they are for; their time with all that they call."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Driver capacity, wanted: 3,000 pairs per second; memory over a million queries, wanted: flat; its share of a
    round of gauss-newton, wanted: at most 10%."""

    pairs: int = 20_000
    """Pairs of a row."""
    queries: int = 1_000_000
    """Of the memory row."""


def capacity(opened: Pool, pairs: int, together: int, auto: bool = False) -> tuple[float, float, dict[str, float]]:
    """Pairs per second, processor seconds of the driver per pair, and shares of the driver's time; with the split left
    to the planner, or whole passes."""
    split = "auto" if auto else (1, 1)
    flight = 16 * ACTORS * together
    config = configure(queries=2 * pairs, mode="async", in_flight=flight, pairs_per_pass=together, split=split)
    if auto:
        opened = split_if_asked(opened, config)
    process, profile = psutil.Process(), cProfile.Profile()
    before, start = sum(process.cpu_times()[:2]), time.perf_counter()
    tune(config, opened)
    seconds, used = time.perf_counter() - start, sum(process.cpu_times()[:2]) - before
    few = config.model_copy(update={"budget": config.budget.model_copy(update={"queries": pairs // 2})})
    profile.enable()
    tune(few, opened)
    profile.disable()
    return pairs / seconds, used / pairs, shares(profile)


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Shares of the profiled time, by part of the driver."""
    stats = pstats.Stats(profile)
    times: dict[str, float] = {}
    total = float(stats.total_tt)  # type: ignore[attr-defined]
    for (_, _, name), (_, _, _, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        times[name] = max(times.get(name, 0.0), cumulative)
    drawn = times.get("perturbation", 0.0)
    found = {what: sum(times.get(name, 0.0) for name in names) / total for what, names in SHARES.items()}
    found["ask and tell, without drawing"] -= drawn / total
    found["the rest"] = 1 - sum(found.values())
    return found


def growth(opened: Pool, queries: int) -> list[float]:
    """MiB of the driver after each tenth of a run."""
    sizes: list[float] = []
    process = psutil.Process()

    def watch(event: Event) -> None:
        done = event.queries if isinstance(event, StepEvent) else 0
        if done * 10 // queries > len(sizes):
            gc.collect()
            sizes.append(process.memory_info().rss / 2**20)

    tune(configure(queries=queries, mode="async", in_flight=16 * ACTORS, pairs_per_step=5), opened, watch)
    return sizes


@dataclass(frozen=True)
class Round:
    """The driver's processor seconds in a round of gauss-newton."""

    asking: float
    telling: float
    mebibytes: float
    """Size of an answer's scores."""

    @property
    def share(self) -> float:
        """The driver's share of the time that the actors take."""
        return (self.asking + self.telling) / ROUND_SECONDS


def measure_round(kept: int | None, rounds: int) -> Round:
    """The median of some rounds: scores as a smooth function of the parameters would have them, drawn.

    Args:
        kept: classes per image whose scores travel, the others pooled; None for all.
        rounds: how many, after one that is not counted.
    """
    one_blas_thread()
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(CLASSES), SHOTS)
    choice = None if kept is None else np.tile(np.arange(kept), (len(labels), 1))
    problem = Problem(labels, IMAGES, 1, 0.01, choice)
    method = GaussNewton(GaussNewtonOptions(round_queries=ROUND), 1, problem=problem)
    columns = CLASSES if kept is None else kept + 1
    centre = 3 * rng.standard_normal((IMAGES, columns), np.float32)
    state, found = OptimizerState(np.zeros(DIMENSION)), []
    for number in range(rounds + 1):
        start = time.process_time()
        asks = [method.ask(state, number * ROUND + place) for place in range(ROUND)]
        asked = time.process_time()
        told = [
            Told(ask, AskResult((1.0,), 0.5, scores=centre + rng.standard_normal((1, IMAGES, columns), np.float32)))
            for ask in asks
        ]
        drawn = time.process_time()
        state, _ = method.tell(state, told)
        found.append((asked - start, time.process_time() - drawn))
    asking, telling = np.median(found[1:], axis=0)
    return Round(float(asking), float(telling), IMAGES * columns * 4 / 2**20)


def round_table(measured: dict[str, Round]) -> str:
    """A row per number of kept classes."""
    rows = [
        [
            kept,
            f"{1000 * one.asking:.1f}",
            f"{1000 * one.telling:.1f}",
            f"{one.share:.0%}",
            f"{1024 * one.mebibytes:.0f}",
        ]
        for kept, one in measured.items()
    ]
    return table(["classes kept per image", "ask, ms", "tell, ms", "of the round", "KiB per answer"], rows)


def main(options: Options) -> int:
    """Measure; exit code."""
    pairs, queries = (200, 2_000) if options.quick else (options.pairs, options.queries)
    rows, best = [], 0.0
    parts = [*SHARES, "the rest"]
    instant = partial(TimedScorer, 0.0)
    with pool(instant, ACTORS) as opened:
        for together, auto in ((1, False), (1, True), (4, False), (16, False)):
            rate, cost, share = capacity(opened, pairs, together, auto)
            best = max(best, rate)
            rows.append(
                [
                    f"Ray, {together} pairs per pass{', split auto' if auto else ''}",
                    f"{rate:.0f}",
                    f"{1e6 * cost:.0f}",
                    *(f"{share[p]:.0%}" for p in parts),
                ]
            )
        sizes = growth(opened, queries)
    rate, cost, share = capacity(InProcessPool(instant), pairs, 1)
    rows.append(["no Ray", f"{rate:.0f}", f"{1e6 * cost:.0f}", *(f"{share[p]:.0%}" for p in parts)])
    text = table(["scorers", "pairs/s", "driver microseconds per pair", *parts], rows)
    grown = sizes[-1] - sizes[0]
    memory = table(
        ["queries", "driver, MiB"], [[f"{(k + 1) * queries // 10:,}", f"{s:.1f}"] for k, s in enumerate(sizes)]
    )
    some, every = (1, 1) if options.quick else (ROUNDS, 3)
    measured = {str(KEPT_CLASSES): measure_round(KEPT_CLASSES, some)}
    measured["all"] = measure_round(None, every)
    of_round = measured[str(KEPT_CLASSES)].share
    rounds = (
        f"A round of gauss-newton, {ROUND} queries with {CLASSES:,} classes, {IMAGES} images and {DIMENSION:,} "
        f"parameters: the driver's processor time, one BLAS thread, beside the {1000 * ROUND_SECONDS:.0f} ms that it "
        f"takes {ROUND} actors:\n\n{round_table(measured)}"
    )
    head = f"{ACTORS} actors with instant scorers on the same {machine()}; 417 parameters, asynchronous mode"
    print(f"{head}\n\n{text}\n\n{memory}\n\n{rounds}\n")
    if options.write:
        title = "# Throughput of the driver\n\nMade by `python benchmarks/driver.py --write`."
        (MEASUREMENTS / "driver.md").write_text(f"{title}\n\n{head}\n\n{text}\n\n{memory}\n\n{rounds}\n")
    print(
        f"{best:.0f} pairs/s (wanted {WANTED_PAIRS}); memory over {queries:,} queries {grown:+.1f} MiB "
        f"(wanted at most {WANTED_GROWTH:+.1f}); {of_round:.0%} of a round (wanted at most {WANTED_SHARE:.0%})"
    )
    reached = best >= WANTED_PAIRS and grown <= WANTED_GROWTH and of_round <= WANTED_SHARE
    return int(options.check and not reached)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
