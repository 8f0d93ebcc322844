"""Speed with slow actors and after a lost node: `python benchmarks/stragglers.py --help`.

Simulated scorers take a fixed time; actors, calls, nodes and the driver are real.
"""

import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import ray
import tyro
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, table
from benchmarks.simulated import TimedScorer, configure, pool, queries_per_second, tune
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.resources import ClusterConfig
from zip_ray.protocol.arrays import Float64
from zip_ray.runs.plotting import GREY, PALETTE, legend_below, new_figure, png
from zip_ray.tuning.events import Event, StepEvent
from zip_ray.tuning.loop import Outcome

WANTED = {"async": 0.95, "sync": 0.80}
"""Of the sum of the actors' speeds, one actor in ten being 10 times slower."""
SLOWER = 10
STEP = 8
"""Pairs per actor in a synchronous step; with few, only their division among actors would be measured."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """One actor in ten is ten times slower; wanted: 95% (async) and 80% (sync) of the sum of speeds."""

    actors: int = 20
    """Actors in all."""
    slow_one_in: int = 10
    """One actor in so many is slow."""
    milliseconds: int = 100
    """Service time of those that are not slow."""
    seconds: float = 30.0
    """Measured time of a row."""


class Uneven(TimedScorer):
    """One actor in so many is slow, by the order in which their processes start."""

    def __init__(self, seconds: float, slow_one_in: int, marks: str) -> None:
        turn = 0
        while True:
            try:
                os.close(os.open(f"{marks}-{turn}", os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                turn += 1
        super().__init__(seconds * (SLOWER if turn % slow_one_in == slow_one_in - 1 else 1))


def with_stragglers(mode: str, options: Options, marks: str, seconds: float) -> tuple[float, float]:
    """Queries per second, and the sum of the actors' speeds."""
    service, skip = options.milliseconds / 1000, seconds / 6
    with pool(partial(Uneven, service, options.slow_one_in, f"{marks}-{mode}"), options.actors) as opened:
        config = configure(skip + seconds, pairs_per_step=STEP * options.actors)
        if mode == "async":
            config = configure(skip + seconds, mode=mode, in_flight=2 * options.actors)
        rate = queries_per_second(config, opened, skip)
    slow = options.actors // options.slow_one_in
    return rate, 2 * (options.actors - slow + slow / SLOWER) / service


@dataclass(frozen=True)
class LostNode:
    """A run in which half of the actors are killed with their node, and another node comes."""

    events: list[Event]
    struck: float
    """Second of the run in which the node is killed."""
    wasted: int
    """Wasted queries."""

    @cached_property
    def steps(self) -> Float64:
        """Seconds and queries at each step, shape (2, steps)."""
        found = [(e.seconds, e.queries) for e in self.events if isinstance(e, StepEvent)]
        return np.array(found).T

    def rate(self, at: float) -> float:
        """Queries per second over the second that ends at `at`."""
        return float(np.interp(at, *self.steps) - np.interp(at - 1, *self.steps))

    @cached_property
    def before(self) -> float:
        """Queries per second before the fault, without the run's first second."""
        return float(np.mean([self.rate(at) for at in np.arange(2, self.struck, 0.25)]))

    def full_again(self, end: float) -> float:
        """Seconds from the strike until the rate over a second is 95% of what it was before it."""
        times = np.arange(self.struck + 1, end, 0.05)
        return float(next((at - self.struck for at in times if self.rate(at) >= 0.95 * self.before), np.inf))


def after_a_lost_node(options: Options, seconds: float) -> LostNode:
    """Kill half of the actors' nodes after a third of the time."""
    service, half = options.milliseconds / 1000, options.actors // 2
    store = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
    nodes = [cluster.add_node(num_cpus=half, **store) for _ in range(2)]
    where = ClusterConfig(address=cluster.address, actors=(1, 2 * half), start_timeout=600)
    opened = RayPool(partial(TimedScorer, service), where)
    events: list[Event] = []
    ended: list[Outcome] = []
    try:
        while len(opened.pids()) < 2 * half:
            opened.facts()
            opened._wait(0.5)
        config = configure(seconds, mode="async", in_flight=4 * half)
        begin = time.monotonic()
        # The driver's loop runs in a thread, since Ray starts nodes from the main thread only.
        driver = threading.Thread(target=lambda: ended.append(tune(config, opened, events.append)))
        driver.start()
        time.sleep(seconds / 3)
        struck = time.monotonic() - begin
        cluster.remove_node(nodes[1], allow_graceful=False)
        cluster.add_node(num_cpus=half, **store)
        driver.join()
    finally:
        opened.close()
        ray.shutdown()
        cluster.shutdown()
    return LostNode(events, struck, ended[0].state.account.wasted)


def draw(path: Path, run: LostNode, seconds: float) -> None:
    """Queries per second before and after the fault."""
    figure = new_figure(6, 3.4)
    axes = figure.add_subplot()
    times = np.arange(1, seconds, 0.25)
    axes.plot(times, [run.rate(at) for at in times], color=PALETTE[0], label="measured")
    axes.axhline(run.before, color=GREY, linestyle="--", label="before")
    axes.axvline(run.struck, color=PALETTE[3], linestyle=":", label="node killed, another asked for")
    axes.set_xlabel("seconds")
    axes.set_ylabel("queries/s")
    axes.set_ylim(bottom=0)
    legend_below(figure)
    path.write_bytes(png(figure, 130))


def write(text: str, lost: LostNode, seconds: float) -> None:
    """Write docs/measurements/stragglers.md and its picture."""
    title = "# Slow actors and lost nodes\n\nMade by `python benchmarks/stragglers.py --write`."
    picture = "![Queries per second around the loss of a node](stragglers.png)"
    (MEASUREMENTS / "stragglers.md").write_text(f"{title}\n\n{text}\n\n{picture}\n")
    draw(MEASUREMENTS / "stragglers.png", lost, seconds)


def main(options: Options) -> int:
    """Measure; exit code."""
    import tempfile

    seconds = options.seconds
    if options.quick:
        options, seconds = replace(options, actors=3, slow_one_in=3, milliseconds=50), 1.0
    rows, shares = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in WANTED:
            rate, ideal = with_stragglers(mode, options, str(Path(folder) / "built"), seconds)
            shares[mode] = rate / ideal
            rows.append([mode, f"{ideal:.0f}", f"{rate:.0f}", f"{rate / ideal:.1%}"])
    slow = f"One actor in {options.slow_one_in} is {SLOWER} times slower; ideal is the sum of the actors' speeds:"
    text = f"{slow}\n\n{table(['mode', 'ideal queries/s', 'queries/s', 'of ideal'], rows)}"
    head = f"{options.actors} actors, {options.milliseconds} ms per pass, driver and actors on the same {machine()}"
    if not options.quick:
        lost = after_a_lost_node(options, 2 * seconds)
        text += (
            "\n\nHalf of the actors killed with their node, and another node started at once: full speed again after "
            f"{lost.full_again(2 * seconds):.1f} s, {lost.wasted} queries wasted."
        )
        if options.write:
            write(f"{head}\n\n{text}", lost, 2 * seconds)
    print(f"{head}\n\n{text}\n")
    print("; ".join(f"{mode}: {share:.1%} (wanted {WANTED[mode]:.0%})" for mode, share in shares.items()))
    return int(options.check and any(share < WANTED[mode] for mode, share in shares.items()))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
