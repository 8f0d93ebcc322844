"""What each constant of the scheduling is worth: `python benchmarks/scheduling.py --help`.

The real dispatcher, in virtual time, over actors that are alike or troubled; and the planner's choice of a partition,
judged by its own model with the shipped constants.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, parallel, table
from benchmarks.simulated import SIZE, configure
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.optimizers import OptimizerState
from zip_ray.pool import dispatcher, pace, split_planner
from zip_ray.pool.split_planner import Whole
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState

ACTORS, LOAD_SECONDS = 16, 5.0
TROUBLE = Faults(hang=1 / 100, slow=1 / 40, fail=1 / 40, kill=1 / 100)
"""Events per second, where a pass takes one."""
FACTORS = (0.25, 4.0)
"""What a constant is multiplied by."""
FELT = 0.02
"""Change of a run's time that counts."""
NOTE = (
    f"Made by `python benchmarks/scheduling.py --write`. {ACTORS} actors in virtual time, a pass takes one second give "
    "or take a tenth; in trouble, in 100 seconds one actor hangs, one is killed, two or three become ten times slower "
    "and as many raise. Time of a run of 1,600 pairs with a constant four times smaller or larger, over its time as "
    "shipped; the mean of five seeds. Where nothing changes, a rarer case is what the constant is for, and a test "
    "holds it (tests/pool/test_dispatcher.py, test_dispatcher_failures.py and test_pace.py)."
)
PLAN_NOTE = (
    "The planner, 2 to 64 actors, 10 to 1,000 classes, passes of 10 ms to 1 s: how many times slower the partition is "
    "that is chosen with the constant changed, by the model with the shipped constants. Below 1: by that model smaller "
    "shards would pay, which does not know what a shard costs besides."
)
DISPATCHING: dict[str, ModuleType] = {
    "PREFETCH": dispatcher,
    "CANDIDATES": dispatcher,
    "LOOK_SECONDS": dispatcher,
    "LATE": pace,
    "LATE_SECONDS": pace,
    "FIRST_SHARE": pace,
    "WINDOW": pace,
    "MEMORY": pace,
    "FORGET": pace,
    "SLOWER": pace,
}
PLANNING = ("FEWEST_CLASSES", "ROUND_TRIP", "DRIVER_SECONDS", "PREFIX_TOKENS", "TOKENS_PER_CLASS", "BETTER")
CASES = {
    "alike, sync": ("sync", 1.0, Faults()),
    "alike, async": ("async", 1.0, Faults()),
    "troubled, sync": ("sync", 1.0, TROUBLE),
    "troubled, async": ("async", 1.0, TROUBLE),
}
"""Mode, seconds per pass, and what happens."""
PLANS = [
    (actors, seconds, Whole("classes", classes), passes, synchronous)
    for actors in (2, 4, 8, 16, 32, 64)
    for seconds in (0.01, 0.05, 0.2, 1.0)
    for classes in (10, 47, 100, 1000)
    for passes, synchronous in ((1, True), (5, True), (8, False))
]
"""Arguments of `choose`."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Time of a run with each constant four times smaller and larger, over its time with the shipped one."""

    pairs: int = 1600
    """Of a run."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Of the faults; the figure is the mean."""


@contextmanager
def changed(module: ModuleType, name: str, factor: float) -> Iterator[None]:
    """A constant of the scheduling, multiplied; of BETTER, a ratio, its excess over 1. Whole numbers stay whole, and at
    least 1."""
    value = getattr(module, name)
    other = 1 + factor * (value - 1) if name == "BETTER" else factor * value
    with mock.patch.object(module, name, max(1, round(other)) if isinstance(value, int) else other):
        yield


def seconds_of(job: tuple[str, str | None, float, Options]) -> float:
    """Mean virtual seconds of some runs: of a case, with a constant (None: as shipped) multiplied."""
    case, name, factor, options = job
    if name is None:
        return float(np.mean([_run(case, seed, options.pairs) for seed in options.seeds]))
    with changed(DISPATCHING[name], name, factor):
        return float(np.mean([_run(case, seed, options.pairs) for seed in options.seeds]))


def _run(case: str, seed: int, pairs: int) -> float:
    mode, seconds, faults = CASES[case]
    flight: dict[str, Any] = {"mode": mode, "in_flight": 2 * ACTORS} if mode == "async" else {}
    config = configure(queries=2 * pairs, pairs_per_step=4 * ACTORS if mode == "sync" else 1, **flight)
    pool = SimulatedPool(seed, ACTORS, faults, lambda _: seconds)
    pool.collect(LOAD_SECONDS)
    start = pool.now
    state = RunState(OptimizerState(np.zeros(SIZE)))
    Tuning(config, pool, state, lambda _: None, lambda _: None, clock=lambda: pool.now).run()
    return pool.now - start


def slower_plans(name: str, factor: float) -> tuple[float, float]:
    """Passes per second of the best partition over those of the one chosen with a constant multiplied, by the model
    with the shipped constants: the mean over `PLANS`, and the worst."""
    losses = []
    for plan in PLANS:
        _, best = split_planner.choose(*plan)
        with changed(split_planner, name, factor):
            partition, _ = split_planner.choose(*plan)
        losses.append(best / split_planner._rate(partition, *plan))
    return float(np.mean(losses)), max(losses)


def main(options: Options) -> int:
    """Measure; exit code."""
    cases = list(CASES)
    if options.quick:
        options, cases = Options(pairs=200, seeds=(1,)), cases[-1:]
    shipped: list[tuple[str, str | None, float, Options]] = [(case, None, 1.0, options) for case in cases]
    others = [(case, name, factor, options) for name in DISPATCHING for factor in FACTORS for case in cases]
    seconds = dict(
        zip(
            [job[:3] for job in shipped + others],
            parallel(seconds_of, shipped + others, options.processes),
            strict=True,
        )
    )
    rows = []
    for name, module in DISPATCHING.items():
        for factor in FACTORS:
            ratios = [seconds[case, name, factor] / seconds[case, None, 1.0] for case in cases]
            rows.append([name, f"{getattr(module, name):g}", f"{factor:g}", *(f"{ratio:.2f}" for ratio in ratios)])
    dispatching = table(["constant", "value", "times", *cases], rows)
    plans = [
        [
            name,
            f"{getattr(split_planner, name):g}",
            f"{factor:g}",
            *(f"{loss:.2f}" for loss in slower_plans(name, factor)),
        ]
        for name in PLANNING
        for factor in FACTORS
    ]
    planning = table(["constant", "value", "times", "mean", "worst"], plans)
    text = f"{NOTE}\n\n{dispatching}\n\n{PLAN_NOTE}\n\n{planning}\n"
    print(text)
    felt = {row[0] for row in rows if any(abs(float(ratio) - 1) >= FELT for ratio in row[3:])}
    if options.write:
        (MEASUREMENTS / "scheduling.md").write_text(f"# What the constants of the scheduling are worth\n\n{text}")
    print(f"{len(felt)} of {len(DISPATCHING)} constants change a run's time (wanted: each, or a test that holds it)")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
