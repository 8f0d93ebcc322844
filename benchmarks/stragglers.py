"""Speed with slow actors and after a lost node: `python benchmarks/stragglers.py --help`.

Simulated scorers take a fixed time; actors, calls, nodes and the driver are real.
"""

import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import ray
import tyro
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors import RayPool
from benchmarks.common import DOCS, BenchmarkOptions, machine, table
from benchmarks.simulated import TimedScorer, configure, pool, queries_per_second, tune
from zip_ray.config import ClusterConfig
from zip_ray.record import Event
from zip_ray.tuning import Outcome

WANTED = {"async": 0.95, "sync": 0.80}
"""Of the sum of the actors' speeds, one actor in ten being 10 times slower."""
SLOWER = 10
STEP = 8
"""Pairs an actor in a synchronous step: with few, what is measured is how they divide."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """One actor in ten is ten times slower; wanted: 95% (async) and 80% (sync) of the sum of speeds."""

    actors: int = 20
    """Actors in all."""
    milliseconds: int = 100
    """Service time of those that are not slow."""
    seconds: float = 30.0
    """Measured time of a row."""


class Uneven(TimedScorer):
    """Slow in one actor of ten, by the number that Ray gives its process a turn at."""

    def __init__(self, seconds: float, marks: str) -> None:
        turn = 0
        while True:
            try:
                os.close(os.open(f"{marks}-{turn}", os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                turn += 1
        super().__init__(seconds * (SLOWER if turn % 10 == 9 else 1))


def with_stragglers(mode: str, options: Options, marks: str, seconds: float) -> float:
    """Share of the sum of speeds."""
    service, skip = options.milliseconds / 1000, seconds / 6
    with pool(partial(Uneven, service, f"{marks}-{mode}"), options.actors) as opened:
        update = {"in_flight": 2 * options.actors, "pairs_per_step": 1}
        if mode == "sync":
            update = {"pairs_per_step": STEP * options.actors}
        rate = queries_per_second(configure(seconds=skip + seconds, mode=mode, **update), opened, skip)
    slow = options.actors // 10
    return rate / (2 * (options.actors - slow + slow / SLOWER) / service)


def after_a_lost_node(options: Options, seconds: float) -> tuple[float, float]:
    """Seconds without full speed after half of the actors' nodes is killed and another comes; queries wasted."""
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
        config = configure(seconds=seconds, mode="async", in_flight=4 * half, pairs_per_step=1)
        begin = time.monotonic()
        # The driver's loop goes into a thread: Ray starts nodes from none but the main one.
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
    return full_again(events, struck), float(ended[0].state.account.wasted)


def full_again(events: list[Event], struck: float) -> float:
    """Seconds from the strike until queries a second over one second are 95% of what they were before it."""
    steps = np.array([(float(str(e["seconds"])), int(str(e["queries"]))) for e in events if e["event"] == "step"])
    times, queries = steps.T

    def rate(at: float) -> float:
        return float(np.interp(at, times, queries) - np.interp(at - 1, times, queries))

    before = np.mean([rate(at) for at in np.arange(2, struck, 0.25)])
    for at in np.arange(struck + 1, times[-1], 0.05):
        if rate(at) >= 0.95 * before:
            return float(at - struck)
    return float("inf")


def main(options: Options) -> int:
    """Measure; exit code."""
    import tempfile

    seconds = options.seconds
    if options.quick:
        options, seconds = replace(options, actors=10, milliseconds=50), 4.0
    rows, shares = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in WANTED:
            shares[mode] = with_stragglers(mode, options, str(Path(folder) / "built"), seconds)
            rows.append([f"one actor in ten {SLOWER} times slower, {mode}", f"{shares[mode]:.1%} of the sum of speeds"])
    if not options.quick:
        again, wasted = after_a_lost_node(options, 2 * seconds)
        rows.append(
            ["half of the actors killed with their node, another node comes", f"full speed after {again:.1f} s"]
        )
        rows.append(["queries wasted by that", f"{wasted:.0f}"])
    text = table(["", ""], rows)
    head = f"{options.actors} actors, {options.milliseconds} ms a pass, driver and actors on the same {machine()}"
    print(f"{head}\n\n{text}\n")
    if options.write:
        title = "# Slow actors and lost nodes\n\nMade by `python benchmarks/stragglers.py --write`."
        (DOCS / "stragglers.md").write_text(f"{title}\n\n{head}\n\n{text}\n")
    print("; ".join(f"{mode}: {share:.1%} (wanted {WANTED[mode]:.0%})" for mode, share in shares.items()))
    return int(options.check and any(share < WANTED[mode] for mode, share in shares.items()))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
