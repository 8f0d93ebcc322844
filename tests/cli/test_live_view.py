"""The display: lines at intervals without a terminal, a bar with one, and time left by the budget that ends first."""

import io
import re
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from tests.support.events import pool_event, stall_event, step_event, validation_event
from tests.support.processes import wait_for
from zip_ray.cli.live_view import LINE_SECONDS, ProgressView, opening_text
from zip_ray.config.budget import BudgetConfig
from zip_ray.config.resources import ClusterConfig
from zip_ray.tuning.events import Event, StepEvent


def step(k: int, seconds: float, **fields: Any) -> StepEvent:
    return step_event(k, seconds=seconds, **{"loss": 1.25, "queries_per_second": 40.0, **fields})


def lines(budget: BudgetConfig, events: list[tuple[float, Event]]) -> list[str]:
    """What is printed without a terminal, given each event with the clock's time."""
    out = io.StringIO()
    now = 0.0
    with ProgressView(budget, Console(file=out, width=200), clock=lambda: now) as view:
        for now, event in events:  # noqa: B007 - the clock reads it
            view.event(event)
    return out.getvalue().splitlines()


def test_lines_come_at_intervals_with_all_figures() -> None:
    events = [(0.0, step(1, 1.0)), (0.0, validation_event(1)), (1.0, step(2, 2.0)), (LINE_SECONDS + 1, step(11, 11.0))]
    shown = lines(BudgetConfig(queries=1000), events)
    assert len(shown) == 2
    assert shown[0].startswith("10/1,000 queries  loss 1.250  accuracy 50.0%")
    # 100 queries took 10 s after the first step, so the remaining 890 take 89 s.
    assert shown[1] == (
        "110/1,000 queries  loss 1.250  accuracy 50.0%  validation 75.0%  40 queries/s, 10 since the start  1:29 left"
    )


def test_a_loss_that_does_not_move_is_said_at_once() -> None:
    """And only once, not in every following line."""
    events = [(0.0, step(50, 25.0)), (0.1, stall_event()), (10.0, step(70, 35.0))]
    first, said, later = lines(BudgetConfig(queries=1000), events)
    assert said == "the loss has not moved in 50 steps (-0.0002 with a standard error of 0.0001): raise it"
    assert "has not moved" not in first + later


def test_nearest_budget_counts() -> None:
    budget = BudgetConfig(queries=100_000, seconds=30, steps=10_000)
    shown = lines(budget, [(0.0, step(1, 1.0)), (10.0, step(11, 11.0))])
    assert shown[1].endswith("left: 0:19 by seconds, 2:46:29 by queries, 2:46:29 by step")


def test_without_a_query_budget() -> None:
    shown = lines(BudgetConfig(queries=None, steps=21), [(0.0, step(1, 1.0)), (10.0, step(11, 11.0))])
    assert shown[1].startswith("110 queries  ")
    assert shown[1].endswith("0:10 left")


def test_losses_that_are_no_number_are_shown() -> None:
    event = step(1, 1.0, loss=float("nan"), accuracy=float("nan"))
    assert "loss nan  accuracy nan%" in lines(BudgetConfig(), [(0.0, event)])[0]


def test_brackets_in_an_error_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressView(BudgetConfig()) as view:
        for event in (pool_event(last_error="OSError: [/data/x.pt]"), step(1, 1.0)):
            view.event(event)
    assert "last error: OSError: [/data/x.pt]" in capsys.readouterr().err


def test_what_goes_wrong_and_who_works_is_shown() -> None:
    pool = pool_event(pending=1, given_up=2, last_error="actor 2: killed", paces=(0.01, 0.025))
    trouble = step(1, 1.0, staleness=7.5, wasted=4, dropped=2)
    waiting, shown = lines(BudgetConfig(), [(0.0, pool), (LINE_SECONDS, trouble)])
    assert waiting.startswith("encoding images and testing templates  actors: 3 ready, 1 pending, 2 given up")
    assert "staleness 7.5  4 queries wasted  2 answers too late" in shown
    assert shown.endswith(
        "actors: 3 ready, 1 pending, 2 given up  0.01 to 0.025 s per pass  last error: actor 2: killed"
    )


def test_a_test_shows_how_many_of_its_parts_are_done_until_the_next_step() -> None:
    before, after = pool_event(asked=(5, 34)), pool_event(asked=(3, 49))
    told = enumerate([before, step(1, 1.0), after, pool_event()])
    shown = lines(BudgetConfig(), [(LINE_SECONDS * place, event) for place, event in told])
    assert shown[0].startswith("encoding images and testing templates: 5 of 34 parts  actors: 3 ready")
    assert "  testing the tuned prompt: 3 of 49 parts  " in shown[2]
    assert not any("parts" in line for line in (shown[1], shown[3]))


def test_what_actors_wait_for_is_said_when_it_changes() -> None:
    cause = "waiting for 1 GPU on one node: 0 of 2 GPU free, held by Trainer (2 GPU)"
    alone, held = pool_event(ready=0, pending=3), pool_event(ready=0, pending=3, waits=cause)
    placed = pool_event(ready=0, pending=2, loading=1, waits=cause)
    told = [alone] * 3 + [held] * 36 + [placed] * 3
    head = "waiting for the first actor  actors: 0 ready"
    assert lines(BudgetConfig(), [(LINE_SECONDS * k, event) for k, event in enumerate(told)]) == [
        f"{head}, 3 pending",
        f"{head}, 3 pending  {cause}",
        f"{head}, 1 loading the model, 2 pending  {cause}",
    ]


def test_a_run_that_stalls_is_not_silent() -> None:
    pool = pool_event(ready=0, pending=2, last_error="actor 2: its node has died")
    events = [(0.0, step(1, 1.0)), (1.0, pool), (LINE_SECONDS, pool), (LINE_SECONDS + 60, pool)]
    _, *stalled = lines(BudgetConfig(), events)
    assert len(stalled) == 2
    assert all("actors: 0 ready, 2 pending  last error: actor 2: its node has died" in line for line in stalled)


def test_a_run_of_which_nothing_is_heard_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cli.live_view", "runs.progress"):
        monkeypatch.setattr(f"zip_ray.{module}.LINE_SECONDS", 0.02)
    out = io.StringIO()
    view = ProgressView(BudgetConfig(), Console(file=out, width=200), opening="starting Ray")
    ticks = Mock(wraps=view._closing.wait)
    monkeypatch.setattr(view._closing, "wait", ticks)
    with view:
        wait_for(lambda: ticks.call_count >= 5, every=0.01)
        assert out.getvalue() == "starting Ray\n", "once"
        view.event(step(1, 1.0))
        wait_for(lambda: out.getvalue().count("\n") >= 3)
    _, _, *silent = out.getvalue().splitlines()
    assert all(re.search(r"  latest step \d s ago, 10 queries/s since the start", line) for line in silent)
    assert lines(BudgetConfig(), [(0.0, step(1, 1.0)), (LINE_SECONDS, step(2, 2.0))])[1].count("latest") == 0


def test_a_terminal_gets_a_bar_that_leaves_nothing_behind() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160)
    with ProgressView(BudgetConfig(queries=100), console) as view:
        for k in range(1, 11):
            view.event(step(k, float(k)))
        view._live.refresh()
    assert "100/100 queries" in out.getvalue()
    assert out.getvalue().rstrip().endswith("\x1b[2K"), "the last thing written erases the bar"


@pytest.mark.parametrize(
    ("cluster", "text"),
    [
        ({"pool": "in-process"}, "loading the model"),
        ({}, "starting Ray"),
        ({"address": "ray://head:10001"}, "joining the Ray cluster"),
    ],
)
def test_what_a_run_does_before_its_pool_is_there(
    cluster: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert opening_text(ClusterConfig(**cluster)) == text
