"""The path of one query: the calls of the project's own functions that one pair takes over Ray, and their files.

`python benchmarks/query_path.py` traces a driver and an actor in steady state (one pair per step, the small CLIP, one
actor) and prints, for each, how many of the project's functions are called for one pair, in how many files, and how
often the way changes from one file to another. `--verbose` prints every call.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from zip_ray import api
from zip_ray.actors.scorer_actor import ScorerActor
from zip_ray.config.reading import validate
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.contract import Pool
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Pass, Work
from zip_ray.tuning.events import Event, StepEvent
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState

ROOT = Path(__file__).resolve().parent.parent
OURS = tuple(f"{ROOT / folder}/" for folder in ("zip_ray", "actors"))
STEADY = 20
"""Steps before the run is in steady state."""
Call = tuple[str, str]
"""File and function."""


@contextmanager
def traced(calls: list[Call]) -> Iterator[None]:
    """Append each call of a function of the project that this thread makes."""

    def note(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            calls.append((str(Path(frame.f_code.co_filename).resolve().relative_to(ROOT)), frame.f_code.co_name))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


class Watched:
    """A pool that keeps what is submitted to it."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self.works = pool, list[Work]()

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def submit(self, works: Sequence[Work]) -> None:
        """Keep and submit."""
        self.works += works
        self._pool.submit(works)


def make_config() -> Config:
    """A run of one pair per step, and nothing else."""
    tree = {
        "prompt": {"init": "template", "intrinsic_dimension": 300},
        "optimizer": {"method": "zip", "pairs_per_step": 1},
        "budget": {"queries": 100},
        "validation": {"every_queries": 10_000},
        "output": {"checkpoint_every_steps": 1_000},
        "cluster": {"actors": 1},
    }
    return validate(tree, "query_path")


def driver_calls(config: Config) -> tuple[list[Call], Work]:
    """The driver's calls for one pair (the median pair), and the work that carried one."""
    calls, marks = list[Call](), list[int]()

    def emit(event: Event) -> None:
        if isinstance(event, StepEvent):
            marks.append(len(calls))

    pool = Watched(api.open_pool(config))
    try:
        space = make_space(config.prompt, pool.facts().shape, config.seed)  # type: ignore[operator]
        tuning = Tuning(config, pool, RunState(OptimizerState(space.initial())), emit, lambda _: None)  # type: ignore[arg-type]
        with traced(calls):
            tuning.run()
    finally:
        pool.close()  # type: ignore[operator]
    windows = [calls[first:end] for first, end in pairwise(marks[STEADY:])]
    pairs = [work for work in pool.works if isinstance(work.body, Pass)]
    return sorted(windows, key=len)[len(windows) // 2], pairs[STEADY]


def actor_calls(config: Config, work: Work) -> list[Call]:
    """An actor's calls for the same pair."""
    actor, calls = ScorerActor(), list[Call]()
    actor.load(partial(api.build_scorer, scorer_key(config)))
    actor.answer([work])
    with traced(calls):
        actor.answer([work])
    return calls


def report(name: str, calls: Sequence[Call]) -> str:
    """A line of the table."""
    files = [file for file, _ in calls]
    changes = sum(one != other for one, other in pairwise(files))
    return f"{name:10} {len(calls):5} calls {len(set(files)):4} files {changes:5} changes of file"


def main() -> None:
    """Trace and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="print every call")
    options = parser.parse_args()
    config = make_config()
    driver, work = driver_calls(config)
    actor = actor_calls(config, work)
    if options.verbose:
        for file, function in [*driver, ("actor", "----"), *actor]:
            print(f"{file} {function}")
    for name, calls in (("driver", driver), ("actor", actor), ("both", [*driver, *actor])):
        print(report(name, calls))


if __name__ == "__main__":
    main()
