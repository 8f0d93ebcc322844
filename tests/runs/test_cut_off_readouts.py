"""Runs interrupted between their last step and their end: the readout's queries are charged once."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.support.fakes import FakeScorer
from tests.support.simulated import DriverKilled
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.pool.in_process import InProcessPool
from zip_ray.protocol.messages import Answer, Body, Evaluation, Pass, Query, Work
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_end, read_record
from zip_ray.runs.lifecycle import RunResult, resume, tune
from zip_ray.tuning.events import ReadoutEvent, StepEvent
from zip_ray.tuning.ledger import Account

READOUT = 5
"""Queries: the scores of all training images with the tuned prompt, and with four further prompts."""


def make_config(folder: Path, queries: int = 40, mode: str = "sync") -> Config:
    sections = {
        "optimizer": {"round_queries": 14},
        "execution": {"mode": mode},
        "budget": {"queries": queries},
        "output": {"dir": str(folder)},
        "tracking": {"enabled": False},
    }
    return validate(sections, "test")


def is_of_readout(body: Body) -> bool:
    return isinstance(body, Pass) and isinstance(body.asks[0], Query) and body.asks[0].chunk is not None


def is_last_test(body: Body) -> bool:
    return isinstance(body, Evaluation) and body.split == "test" and isinstance(body.prompt, np.ndarray)


class CutPool(InProcessPool):
    """Counts the queries sent to it; kills its driver when it waits for a chosen answer."""

    def __init__(self, at: Callable[[Body], bool] = lambda _: False) -> None:
        super().__init__(FakeScorer)
        self._at = at
        self.queries = 0
        self.reached = False

    def submit(self, works: Sequence[Work]) -> None:
        self.queries += sum(ask.queries for work in works if isinstance(work.body, Pass) for ask in work.body.asks)
        self.reached = self.reached or any(self._at(work.body) for work in works)
        super().submit(works)

    def collect(self, timeout: float) -> list[Answer]:
        if self.reached:
            raise DriverKilled
        return super().collect(timeout)


def carry_out(config: Config, pool: CutPool) -> RunResult:
    """Begin the run, or resume it."""
    assert config.output.dir is not None
    known = (config.output.dir / RECORD).exists()
    go = partial(resume, config.output.dir) if known else tune
    return go(config, lambda _: pool, lambda: False)


def settled(folder: Path, pools: Sequence[CutPool]) -> Account:
    """The account in the record, checked against what was sent to the pools."""
    end = read_end(folder)
    assert end is not None
    assert end.account.issued == sum(pool.queries for pool in pools)
    assert end.account.issued == end.account.completed + end.account.wasted
    assert end.queries == end.account.charged == end.account.completed
    return end.account


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("at", [is_of_readout, is_last_test])
@pytest.mark.parametrize("times", [1, 3])
def test_killed_drivers_waste_a_readout_each(at: Callable[[Body], bool], times: int, mode: str, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", mode=mode)
    undisturbed = CutPool()
    carry_out(make_config(tmp_path / "whole", mode=mode), undisturbed)
    whole = settled(tmp_path / "whole", [undisturbed])
    assert whole.wasted == 0
    pools = [CutPool(at) for _ in range(times)]
    for pool in pools:
        with pytest.raises(DriverKilled):
            carry_out(config, pool)
    pools.append(CutPool())
    carry_out(config, pools[-1])
    account = settled(tmp_path / "run", pools)
    assert (account.charged, account.wasted) == (whole.charged, READOUT * times)


def test_an_interrupted_readout_is_wasted_too(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run")
    cut = CutPool(is_of_readout)
    result = tune(config, lambda _: cut_short(cut), lambda: cut.reached)
    assert list(result.outcome.reasons) == ["interrupted"]
    last = CutPool()
    carry_out(config, last)
    assert settled(tmp_path / "run", [cut, last]).wasted == READOUT


def cut_short(pool: CutPool) -> InProcessPool:
    """The pool without its fault: the run is asked to stop instead."""
    pool.collect = partial(InProcessPool.collect, pool)  # type: ignore[method-assign]
    return pool


def test_a_run_that_goes_on_with_more_budget_asks_for_its_readout_again(tmp_path: Path) -> None:
    pools = [CutPool(), CutPool()]
    for queries, pool in zip((40, 60), pools, strict=True):
        carry_out(make_config(tmp_path / "run", queries), pool)
    account = settled(tmp_path / "run", pools)
    assert account.wasted == READOUT
    assert account.charged <= 60


def test_the_record_says_when_the_readout_is_asked_for(tmp_path: Path) -> None:
    carry_out(make_config(tmp_path / "run"), CutPool())
    events = read_record(tmp_path / "run" / RECORD)
    (asked,) = [event for event in events if isinstance(event, ReadoutEvent)]
    last = [event for event in events if isinstance(event, StepEvent)][-1]
    assert (asked.step, asked.queries) == (last.step, last.queries + READOUT)
    assert events.index(last) < events.index(asked) < len(events) - 1
