"""The chaos harness: seeded schedules of faults over a run, simulated and real. `python -m tests.chaos --help`.

Of each schedule it is asserted that the run ends, that no more is charged than the budget allows and all of it is told
once, that the result is the undisturbed one bit for bit (synchronous mode) or within the spread of undisturbed ones
(asynchronous mode), and, on a real cluster, that no process is left behind.
"""

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from ray.cluster_utils import Cluster
from rich.progress import track

from actors import RayPool
from tests.fakes import FakeScorer, loss
from tests.saboteur import MEMBERS, Saboteur, real_cluster, require_gone
from tests.simulated import DriverKilled, Faults, SimulatedPool
from zip_ray.checkpoint import RunState
from zip_ray.config import ClusterConfig, Config, validate
from zip_ray.ledger import settle
from zip_ray.optimizers import OptimizerState
from zip_ray.pool import InProcessPool, Pool, PoolError
from zip_ray.record import Event, queries
from zip_ray.tuning import Outcome, Tuning
from zip_ray.work import Answer

SIZE = 12
"""Parameters."""
SETTINGS: tuple[dict[str, Any], ...] = (
    {"mode": "sync", "pairs_per_step": 5},
    {"mode": "sync", "pairs_per_step": 3},
    {"mode": "async", "pairs_per_step": 1, "in_flight": 12},
    {"mode": "async", "pairs_per_step": 5, "in_flight": 24},
)


@dataclass(frozen=True)
class Story:
    """How a schedule went."""

    outcome: Outcome
    drivers: int
    """1, and one more for each time that the driver was lost."""
    told: Counter[int]
    """How often each pair was told, as far as it counted in the end."""


class CountingPool:
    """A pool that remembers which steps each of its answers came with."""

    def __init__(self, pool: Pool, told: Counter[int]) -> None:
        self._pool, self._told = pool, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def collect(self, timeout: float) -> list[Answer]:
        answers = self._pool.collect(timeout)
        self._told.update(r.id for a in answers for r in getattr(a.result, "results", ()))
        return answers


def make_config(setting: dict[str, Any], pass_size: int = 1) -> Config:
    sections = {
        "optimizer": {"a": 0.3, "method": "spsa", **setting},
        "model": {"pairs_per_pass": pass_size},
        "budget": {"queries": 307},
        "validation": {"every_queries": 60},
        "output": {"checkpoint_every_steps": 3},
    }
    return validate(sections, "chaos")


def live(config: Config, open_pool: Callable[[int, float], SimulatedPool]) -> Story:
    """Run to the end, with a new driver from the last checkpoint whenever the driver or the pool is lost.

    Args:
        config: the run.
        open_pool: makes the pool of the driver of that number, at that time.
    """
    state, drivers, now = RunState(OptimizerState(np.zeros(SIZE))), 0, 0.0
    while True:
        drivers += 1
        assert drivers < 200, "the run does not end"
        pool, events, saved = open_pool(drivers, now), [], [state]
        told: Counter[int] = Counter()
        counting = CountingPool(pool, told)
        try:
            tuning = Tuning(config, counting, state, events.append, saved.append, clock=lambda p=pool: p.now)
            outcome = tuning.run()
            if outcome.finished:
                return Story(outcome, drivers, told)
            state = outcome.state
        except DriverKilled:
            state = _as_resumed(saved[-1], events)
        finally:
            now = pool.now
            pool.close()


def _as_resumed(state: RunState, events: list[Event]) -> RunState:
    """What `run.py resume` makes of the last checkpoint and the record."""
    answered = max((queries(event) for event in events), default=0) - state.account.charged
    return replace(state, account=settle(state.account, max(answered, 0)))


def judge(config: Config, story: Story) -> None:
    """Whether the account holds and the result is what it ought to be."""
    state, size = story.outcome.state, 2 * config.optimizer.pairs_per_step
    account = state.account
    assert list(story.outcome.reasons) == ["queries"], story.outcome.reasons
    assert config.budget.queries is not None
    assert config.budget.queries - size < account.charged <= config.budget.queries
    assert account.charged == account.completed == size * state.optimizer.steps
    assert account.issued == account.completed + account.wasted
    assert set(story.told.values()) <= {1}, "a pair was told twice"
    if config.optimizer.mode == "sync":
        np.testing.assert_array_equal(state.optimizer.w, undisturbed(config))
    else:
        low, high = spread(config)
        assert low <= loss(state.optimizer.w, 0) <= high, (loss(state.optimizer.w, 0), low, high)


@cache
def undisturbed(config: Config) -> np.ndarray:
    """Where the run ends without a pool that could fail."""
    state = RunState(OptimizerState(np.zeros(SIZE)))
    pool = InProcessPool(FakeScorer)
    return Tuning(config, pool, state, lambda _: None, lambda _: None).run().state.optimizer.w


@cache
def spread(config: Config) -> tuple[float, float]:
    """The range of final losses over 40 seeds and pools without faults, widened by half of it on either side.

    A new driver does not ask again what was out when the old one died: it draws other perturbations, as another seed.
    """
    found = []
    for seed in range(40):
        other = config.model_copy(update={"seed": seed})
        story = live(other, lambda _, now, seed=seed: SimulatedPool(seed, 1 + seed % 8, Faults(), start=now))
        found.append(loss(story.outcome.state.optimizer.w, 0))
    margin = (max(found) - min(found)) / 2
    return min(found) - margin, max(found) + margin


def simulated(seed: int) -> Story:
    """One schedule in virtual time."""
    draw = random.Random(seed)
    config = make_config(draw.choice(SETTINGS), pass_size=draw.choice((1, 1, 2, 4)))
    kinds = ("kill", "kill_node", "hang", "slow", "fail", "stop_driver")
    chosen = draw.sample(kinds, draw.randint(1, len(kinds)))
    faults = Faults(**{kind: draw.choice((0.01, 0.05, 0.15)) for kind in chosen}, until=draw.choice((30, 100, 300)))
    members = draw.randint(1, 10)
    story = live(config, lambda driver, now: SimulatedPool(1000 * seed + driver, members, faults, start=now))
    judge(config, story)
    return story


def real(seed: int, cluster: Cluster) -> Story:
    """One schedule over a real cluster; the drivers are this process, one after another."""
    draw = random.Random(seed)
    config = make_config(draw.choice(SETTINGS))
    where = ClusterConfig(
        address=cluster.address, actors=draw.choice([MEMBERS, (1, MEMBERS), "auto"]), answer_timeout=2, start_timeout=60
    )
    state, drivers, seen = RunState(OptimizerState(np.zeros(SIZE))), 0, set()
    with tempfile.TemporaryDirectory() as marks:
        raising = tuple(draw.sample(range(150), draw.randint(0, 2)))
        build = partial(FakeScorer, delay=0.02, raise_at=raising, marks=Path(marks))
        while True:
            drivers += 1
            assert drivers < 10, "the run does not end"
            pool = RayPool(build, where)
            saboteur = Saboteur(100 * seed + drivers, cluster, pool)
            told: Counter[int] = Counter()
            counting = CountingPool(pool, told)
            try:
                pool.facts()
                seen.update(pool.pids())
                saboteur.start()
                nowhere = (lambda _: None, lambda _: None)
                outcome = Tuning(config, counting, state, *nowhere, interrupted=saboteur.interrupted).run()
                seen.update(pool.pids())
            except PoolError:
                outcome = None
            finally:
                pool.close()
                saboteur.finish()
                seen |= saboteur.seen
            if outcome is None:
                continue
            state = outcome.state
            if outcome.finished:
                break
    require_gone(seen)
    story = Story(outcome, drivers, told)
    judge(config, story)
    return story


def main(simulations: int = 2000, reals: int = 100, first: int = 0) -> int:
    """Run schedules, and report; exit code 1 when one of them failed.

    Args:
        simulations: schedules in virtual time.
        reals: schedules over a real cluster of three nodes.
        first: seed of the first.
    """
    failed = 0
    wasted: list[float] = []
    drivers: list[int] = []

    def attempt(kind: str, seed: int, schedule: Callable[[int], Story]) -> None:
        nonlocal failed
        try:
            story = schedule(seed)
        except Exception as error:
            failed += 1
            print(f"{kind} schedule {seed} failed: {type(error).__name__}: {error}")
        else:
            account = story.outcome.state.account
            wasted.append(account.wasted / account.charged)
            drivers.append(story.drivers)

    def report(kind: str, count: int) -> None:
        print(
            f"{kind}: {len(wasted)} of {count} schedules as they should be; drivers a run {np.mean(drivers):.2f} (at "
            f"most {max(drivers)}); wasted queries {np.mean(wasted):.1%} of the budget (at most {max(wasted):.0%})"
        )
        wasted.clear()
        drivers.clear()

    seeds = range(first, first + simulations)
    for seed in track(seeds, "simulated"):
        attempt("simulated", seed, simulated)
    if simulations:
        report("simulated", simulations)
    if reals:
        with real_cluster() as cluster:
            for seed in track(range(first, first + reals), "real"):
                attempt("real", seed, lambda seed: real(seed, cluster))
        report("real", reals)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
