"""Rounds, the driver's share and its memory with up to 1,024 actors: `python benchmarks/scale.py --help`.

Time is virtual: actors, 16 per node, take 50 ms per query. Dispatcher, loop and optimiser are the real ones, and the
processor seconds that they take move the virtual clock, as the actors' time does; so do Ray's own for each call.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, parallel, peak_mebibytes, table
from tests.support.fakes import FACTS
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.actors.ray_pool import CALL_SECONDS
from zip_ray.config.reading import validate
from zip_ray.config.threads import one_blas_thread
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState, Problem
from zip_ray.pool.dispatcher import Dispatcher
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, AskResult, Evaluation, EvaluationResult, Pass, Value, Work
from zip_ray.tuning.events import Event, StepEvent
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState

WANTED_ACTORS, WANTED_SHARE = 1024, 0.9
"""Actors, and the share of what they could do that the driver leaves them."""
PASS_SECONDS = 0.05
PER_NODE = 16
RAY_SECONDS = 1 / 8000
"""Of the driver's time per call, beside what is measured: in Ray's release tests one process makes about 8,000 calls
per second to many actors."""
KEPT, IMAGES, DIMENSION, SHOTS = 16, 128, 8 * 512, 16
"""Classes kept per image, images of a mini-batch, parameters of a ViT-B/16's context, images per class."""
CLASSES = 100
ROUNDS = 8
ZIP, GAUSS_NEWTON = "ZIP, asynchronous", "gauss-newton"
SIZES = {ZIP: 417, GAUSS_NEWTON: DIMENSION}
"""Parameters, by method."""
RAY_LIMITS = """## Ray's own limits

| what | limit | source |
| --- | --- | --- |
| nodes of a cluster | 250 and more tested | ray-project/ray, release/benchmarks/README.md |
| actors of a cluster | 10,000 and more tested | the same |
| object of 1 GiB to many nodes | 50 nodes and more tested | the same |
| calls per second, one process to many actors | 8,038 | release/perf_metrics/microbenchmark.json, 1_n |
| calls per second, many processes to many actors | 27,376 | the same, n_n |
| calls per second through a Ray client | 1,099 | the same, client__1_1 |
| reads per second from the object store, one process | 10,620 | the same, single_client_get_calls |

One stored version of these files (rows: actor_calls_async), on the machines of Ray's own release tests. Work and
answers of the table above travel inline, not through the object store."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Simulated actors; wanted: the driver leaves 1,024 of them 90% of what they could do at 50 ms per query."""

    actors: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Simulated ones."""


class Drawn:
    """A scorer with random answers, since the driver's work does not depend on them."""

    def __init__(self, images: int) -> None:
        rng = np.random.default_rng(1)
        self._centre = 3 * rng.standard_normal((1, images, KEPT + 1), np.float32)
        self._others = rng.standard_normal((32, 1, images, KEPT + 1), np.float32)

    def facts(self) -> Facts:
        return FACTS

    def answer(self, work: Work) -> Value:
        if isinstance(work.body, Evaluation):
            return EvaluationResult(1.0, 0.5, 1)
        assert isinstance(work.body, Pass)
        return tuple(self._one(ask.index, ask.queries, ask.scores is not None) for ask in work.body.asks)

    def _one(self, index: int, points: int, scores: bool) -> AskResult:
        losses = (1.0 + 1e-3 * (index % 7), 1.0)[:points]
        return AskResult(losses, 0.5, scores=self._centre + self._others[index % 32] if scores else None)


class TimedDispatcher(Dispatcher):
    """The real dispatcher, whose processor time is passed to `spend`."""

    def __init__(self, spend: Callable[[float], None]) -> None:
        super().__init__(SimulatedPool.ANSWER_TIMEOUT, CALL_SECONDS)
        self._spend = spend
        self.calls = 0

    def submit(self, *works: Work) -> None:
        began = time.process_time()
        super().submit(*works)
        self._spend(time.process_time() - began)

    def answered(self, member: int, call: int, values: Sequence[tuple[Value, float]], now: float) -> list[Answer]:
        began = time.process_time()
        answers = super().answered(member, call, values, now)
        self._spend(time.process_time() - began)
        return answers

    def assignments(self, now: float) -> list[tuple[int, tuple[Work, ...]]]:
        began = time.process_time()
        sent = super().assignments(now)
        self.calls += len(sent)
        self._spend(time.process_time() - began + len(sent) * RAY_SECONDS)
        return sent


class DrivenPool(SimulatedPool):
    """Actors under the real dispatcher, whose clock the driver's time moves too.

    The driver's are all processor seconds between a return of `collect` and the next call of the pool, those of the
    dispatcher, and Ray's for each call; not those that the simulation and the drawn answers take. What arrives
    meanwhile waits for the driver; actors go on with the calls that they hold.
    """

    def __init__(self, scorer: Drawn, actors: int, seconds: float) -> None:
        self._now = self._event = self._behind = self.driver = 0.0
        self._sending = False
        super().__init__(1, actors, Faults(), lambda _: seconds, scorer=scorer)
        self._dispatcher: TimedDispatcher = TimedDispatcher(self._spend)
        super().collect(1.0)  # all of them join
        self._left = time.process_time()

    @property
    def now(self) -> float:
        """The driver's clock; it never runs back."""
        return self._now

    @now.setter
    def now(self, value: float) -> None:
        self._event = value
        self._now = max(self._now, value)

    @property
    def calls(self) -> int:
        """Number of calls made so far."""
        return self._dispatcher.calls

    def clock(self) -> float:
        """The clock of a loop that uses this pool."""
        return self._now + time.process_time() - self._left

    def submit(self, works: Sequence[Work]) -> None:
        self._spend(time.process_time() - self._left)
        super().submit(works)
        self._left = time.process_time()

    def collect(self, timeout: float) -> list[Answer]:
        self._spend(time.process_time() - self._left)
        answers = super().collect(timeout)
        self._left = time.process_time()
        return answers

    def _spend(self, seconds: float) -> None:
        self.driver += seconds
        self._now += seconds

    def _send(self) -> None:
        self._sending = True
        super()._send()
        self._sending = False

    def _begin(self, number: int) -> None:
        # An actor begins its next call when the last has ended, whatever the driver's clock says by then.
        self._behind = 0.0 if self._sending else self._now - self._event
        super()._begin(number)
        self._behind = 0.0

    def _at(self, time: float, event: Callable[[], list[Answer]]) -> None:
        super()._at(time - self._behind, event)


class Measured(NamedTuple):
    """The measurements of one method with so many actors."""

    method: str
    actors: int
    round_seconds: float
    """Seconds from step to step."""
    queries: float
    """Queries per second."""
    of_ideal: float
    """Queries per second over those of actors that never wait."""
    driver: float
    """Share of the time in which the driver is busy."""
    calls: float
    """Calls per second."""
    mebibytes: float
    """Peak of the process, simulated actors included."""


def configure(method: str, actors: int, rounds: int) -> Config:
    """A config with rounds as wide as the number of actors."""
    asynchronous = method == ZIP
    queries = rounds * actors * (8 if asynchronous else 1)
    name = "zip" if asynchronous else "gauss-newton"
    rounded = {} if asynchronous else {"round_queries": max(actors, 12)}
    execution = {"mode": "async", "in_flight": 4 * actors, "max_staleness": 10**6} if asynchronous else {}
    return validate(
        {
            "optimizer": {"method": name, **rounded},
            "execution": {**execution, "pairs_per_pass": 1},
            "budget": {"queries": queries},
            "validation": {"every_queries": 10**9},
            "readout": "none",
            "output": {"checkpoint_every_steps": 10**9},
        },
        "benchmark",
    )


def measure(job: tuple[str, int, int]) -> Measured:
    """One run in virtual time."""
    method, actors, rounds = job
    one_blas_thread()
    config = configure(method, actors, rounds)
    pool = DrivenPool(Drawn(IMAGES), actors, PASS_SECONDS * config.optimizer.queries_per_ask)
    labels = np.repeat(np.arange(CLASSES), SHOTS)
    problem = Problem(labels, IMAGES, 1, 0.01, np.tile(np.arange(KEPT), (len(labels), 1)))
    events: list[Event] = []
    state = RunState(OptimizerState(np.zeros(SIZES[method])))
    took, began, sent = pool.driver, pool.now, pool.calls
    wants = config.optimizer.wants_scores
    Tuning(
        config,
        pool,
        state,
        events.append,
        lambda _: None,
        clock=pool.clock,
        problem=problem if wants else None,
    ).run()
    steps = np.array([(e.seconds, e.queries) for e in events if isinstance(e, StepEvent)])
    inside = steps[len(steps) // 4 : -(len(steps) // 4) or None]  # without the time while the pool fills or empties
    rate = float(np.polyfit(inside[:, 0], inside[:, 1], 1)[0])
    wall = pool.now - began
    return Measured(
        method,
        actors,
        config.optimizer.queries_per_step / rate,
        rate,
        rate * PASS_SECONDS / actors,
        (pool.driver - took) / wall,
        (pool.calls - sent) / wall,
        peak_mebibytes(),
    )


def main(options: Options) -> int:
    """Measure; exit code."""
    counts = (4,) if options.quick else options.actors
    rounds = 4 if options.quick else ROUNDS
    jobs = [(method, actors, rounds) for method in (ZIP, GAUSS_NEWTON) for actors in counts]
    found = list(parallel(measure, jobs, options.processes))
    header = ["method", "actors", "nodes", "ms per step", "queries/s", "of ideal", "driver at work", "calls/s", "MiB"]
    text = table(header, [line(one) for one in found])
    head = (
        f"Virtual time: {1000 * PASS_SECONDS:.0f} ms per query, {PER_NODE} actors per node; the driver's processor "
        f"time on {machine()}, and {1e6 * RAY_SECONDS:.0f} microseconds of Ray per call, move the clock. A step of "
        f"gauss-newton is a round of as many queries as there are actors, with {CLASSES} classes of which {KEPT} are "
        f"kept; of ZIP a pair."
    )
    print(f"{head}\n\n{text}\n")
    if options.write:
        title = "# A thousand actors, simulated\n\nMade by `python benchmarks/scale.py --write`."
        (MEASUREMENTS / "scale.md").write_text(f"{title}\n\n{head}\n\n{text}\n\n{RAY_LIMITS}\n")
    reached = [one.of_ideal >= WANTED_SHARE for one in found if one.actors == WANTED_ACTORS]
    shares = ", ".join(f"{one.method} {one.of_ideal:.0%}" for one in found if one.actors == max(counts))
    print(f"{max(counts)} actors do {shares} of the ideal (wanted {WANTED_SHARE:.0%} with {WANTED_ACTORS})")
    return int(options.check and not (reached and all(reached)))


def line(one: Measured) -> list[str]:
    """A row of the table."""
    return [
        one.method,
        str(one.actors),
        str(-(-one.actors // PER_NODE)),
        f"{1000 * one.round_seconds:.1f}",
        f"{one.queries:.0f}",
        f"{one.of_ideal:.0%}",
        f"{one.driver:.0%}",
        f"{one.calls:.0f}",
        f"{one.mebibytes:.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
