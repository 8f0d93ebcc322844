"""Runs of the default method: the opening survey, identical bits in any setting, and budgets without a round."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from tests.support.fakes import FACTS, FakeScorer
from tests.support.pools import ShuffledPool
from tests.support.simulated import DriverKilled, Faults, SimulatedPool
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import Pool
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.readout.fitting import fit_readout
from zip_ray.runs.beginning import Beginning
from zip_ray.runs.checkpoint import load_checkpoint
from zip_ray.runs.folder import run_config
from zip_ray.runs.lifecycle import resume, tune
from zip_ray.runs.query_plan import QueryPlan
from zip_ray.runs.survey import FILE_NAME, Survey, read_survey


def make_config(folder: Path, queries: int = 80, **sections: Any) -> Config:
    own = {"output": {"dir": str(folder)}, "tracking": {"enabled": False}, "budget": {"queries": queries}}
    return validate({"optimizer": {"round_queries": 14}, "readout": "none", **own, **sections}, "test")


def in_process(_: Config) -> Pool:
    return InProcessPool(FakeScorer)


def never() -> bool:
    return False


def record(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def end_of(folder: Path) -> tuple[np.ndarray, int]:
    state = load_checkpoint(folder / "checkpoint.safetensors")
    return state.optimizer.w, state.account.charged


def test_the_survey_is_charged_told_and_kept(tmp_path: Path) -> None:
    tune(make_config(tmp_path / "run"), in_process, never)
    found = read_survey(tmp_path / "run")
    assert found.templates == FACTS.templates
    assert found.scores.shape == (1, 8, 2)
    start, *_, end = record(tmp_path / "run")
    assert (start["template"], start["surveyed"], start["reserved"]) == (FACTS.templates[0], 1, 0)
    assert end["account"]["charged"] == 1 + 5 * 14
    assert run_config(tmp_path / "run").optimizer.round_queries == 14


@pytest.mark.parametrize("kept", [False, True])
def test_a_prompt_alone_learns_what_a_readout_says_of_images_held_out(kept: bool) -> None:
    classes = 40 if kept else 3  # with many classes, only some scores are sent
    labels = np.repeat(np.arange(classes), 6)
    rng = np.random.default_rng(1)
    scores = (2 * np.eye(classes)[labels] + rng.standard_normal((len(labels), classes))).astype(np.float32)
    facts = replace(FACTS, labels=labels, classnames=tuple(map(str, range(classes))))
    found = Survey(("a {}",), (1.0,), scores[None])
    config = make_config(Path("run"))
    space = make_space(config.prompt, facts.shape, 1)
    begun = Beginning(QueryPlan(("a {}",), 0, 0, 14), found, "a {}", facts, space)
    problem = begun.problem(config)
    assert problem.targets is not None
    assert (problem.kept is not None) == kept
    said = softmax(fit_readout("auto", [scores], labels, config.seed).held_out, axis=1)
    np.testing.assert_allclose(problem.targets, 0.3 * np.eye(classes)[labels] + 0.7 * said)
    assert begun.problem(config.model_copy(update={"readout": "auto"})).targets is None
    assert replace(begun, survey=None).problem(config).targets is None


def test_the_lowest_loss_comes_first_and_the_earlier_of_equals() -> None:
    found = Survey(("a {}", "b {}", "c {}"), (2.0, 1.0, 1.0), np.zeros((3, 2, 2), np.float32))
    assert found.ranking == ["b {}", "c {}", "a {}"]


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:40])])
def test_a_damaged_survey_is_named(damage: Callable[[Path], object], tmp_path: Path) -> None:
    Survey(("a {}",), (2.0,), np.zeros((1, 2, 2), np.float32)).save(tmp_path)
    assert read_survey(tmp_path).losses == (2.0,)
    damage(tmp_path / FILE_NAME)
    with pytest.raises(InputError, match="damaged survey"):
        read_survey(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_order_of_arrival_does_not_matter(seed: int, tmp_path: Path) -> None:
    tune(make_config(tmp_path / "one"), in_process, never)
    tune(make_config(tmp_path / "other"), lambda _: ShuffledPool(seed), never)
    np.testing.assert_array_equal(end_of(tmp_path / "other")[0], end_of(tmp_path / "one")[0])


@pytest.mark.parametrize("looks", [3, 10, 25, 50, 70])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(looks: int, tmp_path: Path) -> None:
    tune(make_config(tmp_path / "whole"), in_process, never)
    left = iter(range(looks))
    tune(make_config(tmp_path / "parts"), in_process, lambda: next(left, None) is None)
    config = run_config(tmp_path / "parts")
    resume(tmp_path / "parts", config, in_process, never)
    for one, other in zip(end_of(tmp_path / "parts"), end_of(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(4))
def test_rounds_that_close_early_outlive_actors_and_drivers(seed: int, tmp_path: Path) -> None:
    """Actors are slow, hang, crash and fail, and drivers are killed or asked to stop, until the faults end."""
    config = make_config(tmp_path / "run", 400, execution={"mode": "async", "round_share": 0.8})
    faults = Faults(kill=0.1, hang=0.03, slow=0.03, fail=0.1, kill_driver=0.08, stop_driver=0.05, until=80)
    now, finished, drivers = 0.0, False, 0
    while not finished:
        drivers += 1
        pool = SimulatedPool(100 * seed + drivers, 8, faults, start=now)
        go = partial(resume, tmp_path / "run") if (tmp_path / "run").exists() else tune
        with suppress(DriverKilled):
            finished = go(config, lambda _, pool=pool: pool, pool.interrupted).outcome.finished
        now = pool.now
    *_, end = record(tmp_path / "run")
    account = end["account"]
    assert drivers > 1
    assert 400 - 14 < account["charged"] <= 400
    assert account["issued"] == account["completed"] + account["wasted"] > account["charged"] == account["completed"]
    surveyed, used = 1, 12 * end["step"]  # four fifths of each round, and late results
    assert (account["charged"], end["left_over"]) == (surveyed + used + end["dropped"], 0)


@pytest.mark.parametrize("queries", [12, 20])
def test_a_budget_without_room_for_a_round_deploys_the_start(queries: int, tmp_path: Path) -> None:
    fewest = {"round_queries": queries}  # the whole budget, of which the survey takes one query
    result = tune(make_config(tmp_path / "run", queries, optimizer=fewest), in_process, never)
    assert result.outcome.finished
    start, *_, end = record(tmp_path / "run")
    assert (end["deployed_step"], end["step"], end["account"]["charged"]) == (0, 0, start["surveyed"])
