"""Part d: whole runs in one process: queries per second, how long the GPU is busy, the driver's cost."""

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.curves import follow
from benchmarks.on_gpu.models import SMALL, configure, make_scorer
from benchmarks.on_gpu.running import Case, Row, Setting
from benchmarks.on_gpu.timing import Stopwatch
from zip_ray.pool.contract import ScorerLike
from zip_ray.pool.in_process import InProcessPool
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Pass, Value, Work

METHODS = ("gauss-newton", "zip")
WIDTH = 128
"""Queries of a round of gauss-newton."""


class Watched:
    """A scorer whose passes are timed on the GPU."""

    def __init__(self, scorer: ScorerLike, setting: Setting) -> None:
        self._scorer = scorer
        self.watch = Stopwatch(setting)
        self.queries = 0

    def facts(self) -> Facts:
        return self._scorer.facts()

    def answer(self, work: Work) -> Value:
        self.watch.start()
        value = self._scorer.answer(work)
        self.watch.stop()
        if isinstance(work.body, Pass):
            self.queries += sum(ask.queries for ask in work.body.asks)
        return value


class Here(InProcessPool):
    """A pool in this process, using wall-clock time."""

    @property
    def now(self) -> float:
        return time.perf_counter()


def cases(setting: Setting) -> Iterator[Case]:
    """Each method on the shipped model and on a large one."""
    for name in (SMALL,) if setting.quick else ("ViT-B-16", SMALL):
        for method in METHODS:
            yield f"{name}, {method}", partial(tune, setting, name, method)


def tune(setting: Setting, name: str, method: str) -> Iterator[Row]:
    """Measure the second of two runs, since the first sets up things that last."""
    queries = 60 if setting.quick else 20 * WIDTH if method == "gauss-newton" else 1000
    wide = {"optimizer": {"method": method, "round_queries": WIDTH}} if method == "gauss-newton" else {}
    config = configure(setting, queries, method, **({} if setting.quick else wide))
    scorer = make_scorer(name, setting.device, config)
    few = config.model_copy(update={"budget": config.budget.model_copy(update={"queries": min(queries, 3 * WIDTH)})})
    if not setting.quick:
        follow(few, scorer, Here(lambda: scorer))
    watched = Watched(scorer, setting)
    began, cpu = time.perf_counter(), time.process_time()
    curve = follow(config, scorer, Here(lambda: watched))
    cpu = time.process_time() - cpu
    wall, busy = curve[-1].seconds, sum(watched.watch.seconds)
    yield {
        "queries": watched.queries,
        "queries per second": watched.queries / wall,
        "GPU busy": busy / wall,
        "driver, ms per query": 1000 * (wall - busy) / watched.queries,
        "seconds": time.perf_counter() - began,
        "CPU seconds": cpu,
        "accuracy from": curve[0].accuracy,
        "to": curve[-1].accuracy,
    }
