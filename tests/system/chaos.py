"""The chaos harness: seeded schedules of faults over a run, simulated and real. `python -m tests.system.chaos --help`.

Each schedule asserts that the run ends; that it charges no more than the budget, and uses each charged result once;
that its result equals that of an undisturbed run bit for bit (synchronous mode) or is within the spread of undisturbed
runs (asynchronous mode); and, on a real cluster, that no process is left behind.
"""

import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tyro
from ray.cluster_utils import Cluster

from tests.support.environment import isolate_environment
from tests.support.fakes import FACTS, FakeScorer, loss, uneven_build
from tests.support.pools import CountingPool
from tests.support.processes import free_port, require_gone
from tests.support.saboteur import MEMBERS, Disk, Saboteur, real_cluster, tear
from tests.support.simulated import KINDS, DriverKilled, Faults, SimulatedPool
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import OutputError
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.splitting import split_if_asked
from zip_ray.prompts import make_space
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.checkpoint import load_checkpoint
from zip_ray.runs.lifecycle import resume, tune
from zip_ray.tuning.events import Event
from zip_ray.tuning.ledger import settle
from zip_ray.tuning.loop import Outcome, Tuning
from zip_ray.tuning.state import RunState

PAIRS = 153
"""Pairs in a budget of 307 queries, which leaves one query over."""
SETTINGS: tuple[dict[str, Any], ...] = (
    {"mode": "sync", "pairs_per_step": 5},
    {"mode": "sync", "pairs_per_step": 3},
    {"mode": "sync", "pairs_per_step": 2, "split": (2, 2)},
    {"mode": "async", "pairs_per_step": 1, "in_flight": 12, "split": (1, 1)},
    {"mode": "async", "pairs_per_step": 5, "in_flight": 24, "split": (1, 1)},
    {"mode": "async", "pairs_per_step": 1, "in_flight": 4, "split": "auto"},
)
"""Pairs per step, and the section `execution`."""


@dataclass(frozen=True)
class Story:
    """The outcome of one schedule."""

    outcome: Outcome
    drivers: int
    """One, plus one for each time that a driver was lost or asked to stop."""
    told: Counter[int]
    """How often each pair was used, over all drivers; pairs that a new driver repeats do not count."""
    issued: int
    """Queries received by the pools that the drivers can have recorded: a lower bound on those issued."""
    struck: Counter[str] = field(default_factory=Counter)
    """Faults that occurred, by kind."""


def make_config(setting: dict[str, Any], pass_size: int = 1, **others: Any) -> Config:
    optimizer = dict(setting)
    sections = {
        "prompt": {"intrinsic_dimension": 8, "rank": 2},
        "optimizer": {"step_size": 0.3, "method": "spsa", "pairs_per_step": optimizer.pop("pairs_per_step")},
        "execution": {"pairs_per_pass": pass_size, **optimizer},
        "budget": {"queries": 2 * PAIRS + 1},
        "validation": {"every_queries": 60},
        "output": {"checkpoint_every_steps": 3},
        "tracking": {"enabled": False},
        **others,
    }
    return validate(sections, "chaos")


def start(config: Config) -> RunState:
    """The initial state of a run with this config."""
    return RunState(OptimizerState(make_space(config.prompt, FACTS.shape, config.seed).initial()))


def live(config: Config, state: RunState, open_pool: Callable[[int, float], SimulatedPool]) -> Story:
    """Run to the end, starting a new driver from the last checkpoint whenever the driver or the pool is lost, or the
    driver is asked to stop.

    Args:
        config: the run.
        state: its initial state.
        open_pool: makes the pool of a driver, given its number and the time at which it starts.
    """
    drivers, now, issued = 0, 0.0, 0
    told, struck = Counter[int](), Counter[str]()
    while True:
        drivers += 1
        assert drivers < 200, "the run does not end"
        pool, events, saved, killed = open_pool(drivers, now), [], [state], False
        counting = CountingPool(split_if_asked(pool, config, lambda p=pool: p.now), told, state.asked)
        try:
            tuning = Tuning(
                config, counting, state, events.append, saved.append, pool.interrupted, clock=lambda p=pool: p.now
            )
            outcome = tuning.run()
            assert saved[-1] is outcome.state, "the last state was not saved"
            assert all(event.queries <= outcome.state.account.charged for event in events), "a step was lost"
        except DriverKilled:
            killed = True
        finally:
            now = pool.now
            pool.close()
        state = _as_resumed(saved[-1], events)
        issued += counting.issued(config, killed)
        struck += pool.struck
        if not killed and outcome.finished:
            return Story(outcome, drivers, told, issued, struck)


def _as_resumed(state: RunState, events: list[Event]) -> RunState:
    """The state from which `zip-ray resume` continues: the last checkpoint and the record."""
    answered = max((event.queries for event in events), default=0) - state.account.charged
    return replace(state, account=settle(state.account, max(answered, 0)))


def judge(config: Config, story: Story, nan_at: tuple[int, ...] = ()) -> None:
    """Check the account and the result; `nan_at` are the pairs without a finite loss."""
    state, size = story.outcome.state, 2 * config.optimizer.pairs_per_step
    account = state.account
    assert list(story.outcome.reasons) == ["queries"], story.outcome.reasons
    assert config.budget.queries is not None
    assert config.budget.queries - size < account.charged <= config.budget.queries
    assert account.charged == account.completed == size * state.optimizer.steps
    assert account.issued == account.completed + account.wasted
    assert account.issued >= story.issued, (account, story.issued)
    assert set(story.told.values()) == {1}, "a pair was told twice"
    assert len(story.told) >= account.charged // 2, "a pair was not told"
    if config.execution.mode == "sync":
        assert sorted(story.told) == list(range(account.charged // 2))
        np.testing.assert_array_equal(state.optimizer.w, undisturbed(config, nan_at))
    else:
        low, high = spread(config)
        assert low <= loss(state.optimizer.w, 0) <= high, (loss(state.optimizer.w, 0), low, high)


@cache
def undisturbed(config: Config, nan_at: tuple[int, ...]) -> np.ndarray:
    """The final parameters of a run whose pool cannot fail."""
    pool = split_if_asked(InProcessPool(partial(FakeScorer, nan_at=nan_at)), config)
    return Tuning(config, pool, start(config), lambda _: None, lambda _: None).run().state.optimizer.w


@cache
def spread(config: Config) -> tuple[float, float]:
    """The range of final losses over 40 seeds and fault-free pools, widened by half of it on either side.

    A new driver does not repeat queries that were in flight when the old one ended: it draws other perturbations.
    """
    found = []
    for seed in range(40):
        other = config.model_copy(update={"seed": seed})
        open_pool = lambda _, now, seed=seed: SimulatedPool(seed, 1 + seed % 8, Faults(), start=now)  # noqa: E731
        story = live(other, start(config), open_pool)
        found.append(loss(story.outcome.state.optimizer.w, 0))
    margin = (max(found) - min(found)) / 2
    return min(found) - margin, max(found) + margin


def simulated_schedule(seed: int) -> Story:
    """Run one schedule in virtual time."""
    draw = random.Random(seed)
    config = make_config(draw.choice(SETTINGS), pass_size=draw.choice((1, 1, 2, 4)))
    chosen = draw.sample(KINDS, draw.randint(1, len(KINDS)))
    faults = Faults(**{kind: draw.choice((0.01, 0.05, 0.15)) for kind in chosen}, until=draw.choice((30, 100, 300)))
    members, together = draw.randint(1, 10), draw.choice((0.0, 1.0))

    def open_pool(driver: int, now: float) -> SimulatedPool:
        return SimulatedPool(1000 * seed + driver, members, faults, start=now, call_seconds=together)

    story = live(config, start(config), open_pool)
    judge(config, story)
    return story


def real_schedule(seed: int, cluster: Cluster) -> Story:
    """Run one schedule over a real cluster, from the run folder to its end; this process is each driver in turn."""
    draw = random.Random(seed)
    config = make_config(draw.choice(SETTINGS))
    nan_at = tuple(draw.sample(range(PAIRS), draw.choice((0, 0, 2))))
    raising, exhausting = (tuple(draw.sample(range(PAIRS), draw.randint(0, 1))) for _ in range(2))
    broken, slow = draw.choice((0, 0, 1, 2)), draw.choice((0, 0, 1))
    tracked = draw.choice((False, False, False, True))
    actors = draw.choice([MEMBERS, (1, MEMBERS), "auto"])
    told, struck = Counter[int](), Counter[str]()
    with tempfile.TemporaryDirectory() as place, Disk().mounted() as disk:
        marks, folder = Path(place) / "marks", Path(place) / "run"
        marks.mkdir()
        scorer = FakeScorer(delay=0.02, raise_at=raising, exhaust_at=exhausting, nan_at=nan_at, marks=marks)
        whole = config.model_copy(
            update={
                "output": config.output.model_copy(update={"dir": folder}),
                "tracking": config.tracking.model_copy(
                    update={"enabled": tracked, "uri": f"http://127.0.0.1:{free_port()}"}
                ),
                "cluster": config.cluster.model_copy(
                    update={
                        "address": cluster.address,
                        "actors": actors,
                        "answer_timeout": 2,
                        "start_timeout": 60,
                    }
                ),
            }
        )
        outcome, drivers, issued, seen = None, 0, 0, set[int]()
        while outcome is None or not outcome.finished:
            drivers += 1
            assert drivers < 10, "the run does not end"
            pool = RayPool(partial(uneven_build, scorer, broken, slow), whole.cluster)
            saboteur = Saboteur(100 * seed + drivers, cluster, pool, disk)
            counting = CountingPool(split_if_asked(pool, whole), told, asked_before(folder), saboteur.meanwhile)
            try:
                with suppress(PoolError, DriverKilled, OutputError):
                    pool.facts()
                    saboteur.start()
                    outcome = drive(whole, counting, saboteur.interrupted)
            finally:
                saboteur.close_pool()
                saboteur.finish()
                seen |= saboteur.seen
                struck += saboteur.struck
            killed = saboteur.struck["driver killed"] > 0
            issued += counting.issued(config, killed)
            if killed:
                tear(folder)
        struck["NaN"] = sum(told[pair] for pair in nan_at)
        struck["tracking server down"] = int(tracked)
        struck += scorer_faults(marks, broken, slow)
    require_gone(seen)
    # A full disk also loses lines of the record, so the next driver lacks their content.
    story = Story(outcome, drivers, told, 0 if struck["disk full"] else issued, struck)
    judge(config, story, nan_at)
    return story


def scorer_faults(marks: Path, broken: int, slow: int) -> Counter[str]:
    """The scorers' faults that occurred, counted from the marks they left."""
    left = Counter(mark.name.split("-")[0] for mark in marks.iterdir())
    return Counter(
        {
            "exception raised": left["raised"],
            "out of GPU memory": left["exhausted"],
            "actor does not start": min(left["built"], broken),
            "actor ten times slower": min(max(left["built"] - broken, 0), slow),
        }
    )


def asked_before(folder: Path) -> int:
    """Number of the next pair, according to a run folder."""
    path = folder / CHECKPOINT
    return load_checkpoint(path).asked if path.exists() else 0


def drive(config: Config, pool: Pool, interrupted: Callable[[], bool]) -> Outcome:
    """One driver's task: start the run, or continue from its predecessor's state."""
    folder = config.output.dir
    assert folder is not None
    if (folder / CHECKPOINT).exists():
        return resume(folder, config, lambda _: pool, interrupted).outcome
    shutil.rmtree(folder, ignore_errors=True)  # the driver was lost before it had saved anything to continue from
    return tune(config, lambda _: pool, interrupted).outcome


@dataclass
class Tally:
    """The outcomes of one kind of schedule, printed as they end, so that an interrupted run shows how many passed."""

    kind: str
    every: int
    """Number of schedules per printed line."""
    stories: list[Story] = field(default_factory=list)
    failed: int = 0
    began: float = field(default_factory=time.monotonic)

    def attempt(self, seed: int, schedule: Callable[[int], Story]) -> None:
        """Run one schedule."""
        try:
            self.stories.append(schedule(seed))
        except Exception as error:
            self.failed += 1
            print(f"{self.kind} schedule {seed} failed: {type(error).__name__}: {error}", flush=True)
        tried = len(self.stories) + self.failed
        if tried % self.every == 0:
            each = (time.monotonic() - self.began) / tried
            print(f"{self.kind}: {len(self.stories)} of {tried} as they should be, {each:.1f} s each", flush=True)

    def report(self) -> None:
        """Summary of all schedules."""
        accounts = [story.outcome.state.account for story in self.stories]
        wasted = [account.wasted / account.charged for account in accounts] or [0.0]
        drivers = [story.drivers for story in self.stories] or [0]
        struck = sum((story.struck for story in self.stories), Counter[str]())
        faults = ", ".join(f"{kind} {times}" for kind, times in sorted(struck.items()))
        print(
            f"{self.kind}: {len(self.stories)} of {len(self.stories) + self.failed} schedules as they should be; "
            f"drivers per run {np.mean(drivers):.2f} (at most {max(drivers)}); wasted queries {np.mean(wasted):.1%} of "
            f"the budget (at most {max(wasted):.0%}); faults: {faults}"
        )


def main(simulated: int = 2000, real: int = 100, first: int = 0) -> int:
    """Run the schedules and report; returns exit code 1 if one of them failed.

    Args:
        simulated: schedules in virtual time.
        real: schedules over a real cluster of three nodes.
        first: seed of the first; lets a long session be run in parts.
    """
    isolate_environment()
    logging.getLogger("zip_ray.pool.split_planner").setLevel(logging.ERROR)  # the planner logs each choice
    virtual, actual = Tally("simulated", every=100), Tally("real", every=1)
    for seed in range(first, first + simulated):
        virtual.attempt(seed, simulated_schedule)
    if simulated:
        virtual.report()
    if real:
        with real_cluster() as cluster:
            actual.began = time.monotonic()
            for seed in range(first, first + real):
                # Calls of several passes, on half of the schedules.
                with mock.patch("zip_ray.actors.ray_pool.CALL_SECONDS", 0.02 if seed % 2 else 0.002):
                    actual.attempt(seed, partial(real_schedule, cluster=cluster))
        actual.report()
    return int(virtual.failed + actual.failed > 0)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
