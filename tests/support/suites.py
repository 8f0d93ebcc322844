"""Whole suites in this process, over scorers without a model."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.fakes import FakeScorer
from tests.support.suite_files import BASE, suite_file
from zip_ray.comparison.execute import SuiteOutcome, run_suite
from zip_ray.comparison.suite import load_suite
from zip_ray.config.tree import Config
from zip_ray.pool.contract import Pool, ScorerLike
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.runs.lifecycle import Listener
from zip_ray.tuning.events import Event, StepEvent

SMALLER = {**BASE, "prompt": {"intrinsic_dimension": 12}}
"""A config for scorers without a model."""


def carry_out(
    folder: Path, build: Callable[[Config], ScorerLike], stop_after: float = math.inf, **fields: object
) -> SuiteOutcome:
    """Run a suite in this process over scorers without a model; asks it to stop after this many steps in all runs."""
    suite = load_suite(folder / suite_file(folder, **{"base": SMALLER, **fields}))
    steps: list[Event] = []

    def listen(_: Config, view: Listener) -> Listener:
        def forward(event: Event) -> None:
            view(event)
            steps.extend([event] * isinstance(event, StepEvent))

        return forward

    def open_pool(_: Config, keys: list[str]) -> Pool:
        return InProcessPool(partial(MultiScorer, by_key(build), keys))

    return run_suite(suite, folder / "out", open_pool, lambda: len(steps) > stop_after, listen)


def by_key(build: Callable[[Config], ScorerLike]) -> Callable[[str], ScorerLike]:
    """The same function, taking a run's key."""
    return lambda key: build(Config.model_validate_json(key))


def build_fake(_: Config) -> FakeScorer:
    return FakeScorer()
