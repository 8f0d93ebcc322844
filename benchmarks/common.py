"""What the programs in benchmarks/ share: runs without Ray and without files, tables, a description of the machine."""

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.tables import table as table
from zip_ray.clip.device import processor
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import Prompt, Split
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Priority, new_work
from zip_ray.scorer.scorer import Scorer, build_scorer
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState

ROOT = Path(__file__).resolve().parent.parent
MEASUREMENTS = ROOT / "docs" / "measurements"
TASKS = ("digits", "count", "texture", "shape", "letter")


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of every program here."""

    quick: bool = False
    """A small part of it, in under a minute."""
    check: bool = False
    """Exit 1 where the wanted figure, the last line printed, is not reached."""
    write: bool = False
    """Write the table (and the picture) to docs/measurements/."""
    processes: int = 2
    """Runs at a time."""


@dataclass(frozen=True)
class Figures:
    """One run."""

    zero_shot: float
    """Test accuracy with the task's plain template."""
    tuned: float
    """Test accuracy of the last iterate."""
    best_validation: float
    validation: float
    """Validation accuracy of the last iterate."""
    validation_loss: float
    seconds: float
    queries: int

    @property
    def gain(self) -> float:
        """Points over zero-shot with the plain template."""
        return 100 * (self.tuned - self.zero_shot)


def configure(task: str, seed: int, queries: int, /, **sections: object) -> Config:
    """A config for one in-process run; sections override."""
    base = {"seed": seed, "task": {"name": task}, "budget": {"queries": queries}, "cluster": {"pool": "in-process"}}
    return validate({**base, **sections}, "benchmark")


def run(config: Config, scorer: Scorer | None = None) -> Figures:
    """Tune with zip-ray's own loop, ledger and scorer, in this process and thread."""
    scorer = scorer or build_scorer(config)
    facts = scorer.facts()
    space = make_space(config.prompt, facts.shape, config.seed)
    evaluate(scorer, "test", facts.template)  # the time does not include features of the test images
    start = time.perf_counter()
    pool = InProcessPool(lambda: scorer)
    outcome = Tuning(config, pool, RunState(OptimizerState(space.initial())), lambda _: None, lambda _: None).run()
    seconds = time.perf_counter() - start
    state = outcome.state
    zero_shot = evaluate(scorer, "test", facts.template)
    tuned = evaluate(scorer, "test", state.optimizer.w)
    validation = evaluate(scorer, "val", state.optimizer.w)
    return Figures(
        zero_shot.accuracy,
        tuned.accuracy,
        state.best.accuracy if state.best else 0.0,
        validation.accuracy,
        validation.loss,
        seconds,
        state.account.charged,
    )


def evaluate(scorer: Scorer, split: Split, prompt: Float64 | str | Prompt) -> EvaluationResult:
    """Loss and accuracy on a split."""
    result = scorer.answer(new_work(Evaluation(split, prompt), Priority.EVALUATION))
    assert isinstance(result, EvaluationResult)
    return result


Job = TypeVar("Job")
Done = TypeVar("Done")


def parallel(function: Callable[[Job], Done], jobs: Sequence[Job], processes: int) -> Iterator[Done]:
    """Results in the order of the jobs, as they come, from fresh processes; progress on stderr. A single job runs in
    this process."""
    if len(jobs) == 1:
        yield function(jobs[0])
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from track(pool.map(function, jobs), "runs", total=len(jobs), console=Console(stderr=True))


def machine() -> str:
    """A description of the machine, for readers of the figures."""
    return f"{os.cpu_count()} cores of {processor()}, torch {torch.__version__}, Python {platform.python_version()}"


def peak_mebibytes() -> float:
    """Peak resident memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
