"""A run whose method chooses gains itself says so, once."""

import pytest

from tests.support.fakes import FakeScorer
from tests.support.loop import Halt, make_config, of_kind, tune, without_time
from zip_ray.pool.in_process import InProcessPool
from zip_ray.runs.event_log import as_json, from_json
from zip_ray.runs.progress import chosen_text
from zip_ray.tuning.events import ChosenEvent, StepEvent

AUTO = {"step_size": "auto", "perturbation_scale": "auto"}


@pytest.mark.parametrize("execution", [{}, {"mode": "async", "in_flight": 20}])
def test_the_gains_are_told_once_and_charged(execution: dict[str, object]) -> None:
    _, events = tune(make_config(optimizer=AUTO, budget={"queries": 300}, execution=execution))
    (said,) = of_kind(events, ChosenEvent)
    assert (said.step, said.queries) == (8, 80)
    assert said.options.keys() == AUTO.keys()
    assert of_kind(events, StepEvent)[-1].queries == 300
    assert from_json(as_json(said)) == said
    assert chosen_text(said).startswith("chosen after 80 queries: optimizer.step_size ")


@pytest.mark.parametrize("looks", [5, 100])
def test_a_resumed_run_does_not_tell_them_again(looks: int) -> None:
    """Interrupt the run before and after the gains are chosen."""
    config = make_config(optimizer=AUTO, budget={"queries": 300})
    _, whole = tune(config)
    cut, before = tune(config, interrupted=Halt([looks]))
    assert not cut.finished
    _, after = tune(config, InProcessPool(FakeScorer), cut.state)
    assert without_time([*of_kind(before, ChosenEvent), *of_kind(after, ChosenEvent)]) == without_time(
        of_kind(whole, ChosenEvent)
    )
