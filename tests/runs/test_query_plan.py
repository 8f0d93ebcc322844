"""The plan for the queries of a run: never more than the budget."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import FACTS
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.optimizers.gauss_newton import LEAST_ROUND
from zip_ray.protocol.facts import PHOTO, Facts
from zip_ray.protocol.mini_batches import chunks
from zip_ray.runs.query_plan import FEWEST_IN_ROUND, MOST_IN_ROUND, plan_queries

TEMPLATES = tuple(f"{number} of a {{}}." for number in range(9))


def facts(images: int = 160, templates: tuple[str, ...] = TEMPLATES) -> Facts:
    split = {**FACTS.images, "train": images}
    return replace(FACTS, images=split, labels=np.arange(images) % 2, templates=templates)


def config(queries: int | None = 500, actors: int = 2, **sections: object) -> Config:
    budget = {"queries": queries, "seconds": 60}
    return validate({"budget": budget, "cluster": {"actors": actors}, **sections}, "test")


@settings(max_examples=200)
@given(
    queries=st.integers(12, 6000),
    images=st.integers(1, 3000),
    templates=st.integers(1, 30),
    actors=st.integers(1, 300),
    readout=st.sampled_from(["none", "bias", "linear", "auto"]),
)
def test_a_plan_is_within_the_budget_and_its_rounds_use_it(
    queries: int, images: int, templates: int, actors: int, readout: str
) -> None:
    asked = config(queries, actors, readout=readout)
    plan = plan_queries(asked, facts(images, tuple(f"{number} {{}}" for number in range(templates))))
    each = chunks(images, asked.task.batch_size)
    left = queries - each * len(plan.templates) - plan.reserved
    assert left >= 0
    assert (1 if each <= 0.8 * queries else 0) <= len(plan.templates) <= templates + 1
    assert plan.reserved in (0, each * (plan.further + (readout != "none")))
    assert LEAST_ROUND <= plan.round_queries <= MOST_IN_ROUND
    if left >= LEAST_ROUND and plan.round_queries > LEAST_ROUND:
        assert left % plan.round_queries < left // plan.round_queries


@pytest.mark.parametrize("queries", [12, 25, 100, 500, None])
def test_two_chunks_of_images(queries: int | None) -> None:
    plan = plan_queries(config(queries), facts())
    known = (*TEMPLATES, PHOTO)
    assert plan.templates == known[: 4 if queries == 12 else 10]
    rounds = {12: 0, 25: 0, 100: 2, 500: 9}
    if queries is not None:
        assert (queries - 2 * len(plan.templates) - plan.reserved) // plan.round_queries == rounds[queries]
    else:
        assert plan.round_queries == FEWEST_IN_ROUND


def test_a_budget_below_the_images_starts_at_the_tasks_template() -> None:
    plan = plan_queries(config(12), facts(images=3000))
    assert (plan.templates, plan.reserved, plan.round_queries) == ((), 0, 12)


def test_a_round_is_as_wide_as_the_actors() -> None:
    widths = [plan_queries(config(None, actors), facts()).round_queries for actors in (1, 52, 100, 128, 1000)]
    assert widths == [52, 52, 99, 127, 128]  # one actor answers the validation meanwhile


def test_a_round_that_is_given_stays() -> None:
    assert plan_queries(config(optimizer={"round_queries": 33}), facts()).round_queries == 33


def test_a_start_that_is_given_is_not_surveyed() -> None:
    for prompt in ({"init": "template"}, {"init": "a photo of a"}, {"space": "frame"}):
        assert plan_queries(config(prompt=prompt), facts()).templates == ()
    plan = plan_queries(config(optimizer={"method": "zip"}), facts())
    assert (plan.templates, plan.reserved) == ((), 0)
    assert plan_queries(config(optimizer={"method": "zip"}, prompt={"init": "auto"}), facts()).templates
