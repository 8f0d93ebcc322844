"""Runs that differ only in what the driver does share a scorer."""

from typing import Any

import pytest

from tests.support.configs import zip_config
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config


def key(**sections: Any) -> str:
    return scorer_key(zip_config(sections))


def test_runs_that_differ_for_the_driver_alone_share_a_scorer() -> None:
    one = key(optimizer={"method": "zip"}, budget={"queries": 100})
    other = {"method": "spsa", "step_size": 0.5, "perturbation_scale": 0.02}
    assert key(optimizer=other, budget={"queries": 900}, output={"dir": "x"}) == one
    assert key(execution={"mode": "async", "in_flight": 3, "max_staleness": 2}, budget={"queries": 100}) == one
    assert key(readout="linear", budget={"queries": 100}) == one
    assert key(optimizer={"method": "cma-es"}, validation={"every_queries": 7}, tracking={"enabled": False}) == one


def test_methods_share_a_scorer_from_one_space_and_one_start() -> None:
    """`auto` starts from the words of the task's template; the asks name the template that was found."""
    space = {"space": "context", "init": "template"}
    one = key(prompt=space)
    rounds = {"mode": "async", "round_share": 0.7}
    assert key(optimizer={"method": "gauss-newton"}, prompt=space, execution=rounds) == one
    assert key(optimizer={"method": "gauss-newton", "round_queries": 60, "damping": 1}) == one
    assert key(prompt={**space, "init": "auto"}) == one
    assert key(prompt={**space, "init": "a photo of a"}) != one


@pytest.mark.parametrize(
    "sections",
    [
        {"task": {"shots": 3}},
        {"prompt": {"rank": 2}},
        {"model": {"precision": "tf32"}},
        {"optimizer": {"loss": "focal"}},
        {"seed": 2},
    ],
    ids=str,
)
def test_what_a_scorer_depends_on_is_in_its_key(sections: dict[str, Any]) -> None:
    assert key(**sections) != key()


def test_a_reduced_precision_is_judged_at_the_scale_and_law_of_the_run() -> None:
    model = {"precision": "tf32"}
    coarse, finer = (key(model=model, optimizer={"perturbation_scale": c}) for c in (0.01, 0.02))
    assert coarse != finer
    assert key(model=model, optimizer={"perturbation": "random-sign"}) != coarse
    assert key(optimizer={"perturbation_scale": 0.02}) == key()


def test_a_key_is_a_config_that_the_scorer_is_built_from() -> None:
    config = Config.model_validate_json(key(seed=3, task={"shots": 2}, optimizer={"method": "one-sided"}))
    assert (config.seed, config.task.shots, config.optimizer.method) == (3, 2, "zip")
