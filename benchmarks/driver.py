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

import psutil
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, table
from benchmarks.simulated import TimedScorer, configure, pool, tune
from zip_ray.pool.contract import Pool
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.splitting import split_if_asked
from zip_ray.tuning.events import Event, StepEvent

WANTED_PAIRS = 3000
"""Pairs per second through real Ray calls, the best of the rows."""
WANTED_GROWTH = 5.0
"""MiB by which a driver may grow between the tenth and the last part of a million queries."""
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
    """Driver capacity, wanted: 3,000 pairs per second; memory over a million queries, wanted: flat."""

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
    """Of the profiled time, by part of the driver."""
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
    head = f"{ACTORS} actors with instant scorers on the same {machine()}; 417 parameters, asynchronous mode"
    print(f"{head}\n\n{text}\n\n{memory}\n")
    if options.write:
        title = "# What the driver can do\n\nMade by `python benchmarks/driver.py --write`."
        (MEASUREMENTS / "driver.md").write_text(f"{title}\n\n{head}\n\n{text}\n\n{memory}\n")
    print(
        f"{best:.0f} pairs/s (wanted {WANTED_PAIRS}); memory over {queries:,} queries {grown:+.1f} MiB "
        f"(wanted at most {WANTED_GROWTH:+.1f})"
    )
    return int(options.check and (best < WANTED_PAIRS or grown > WANTED_GROWTH))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
