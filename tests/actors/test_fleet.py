"""Which actors a pool starts, replaces, gives up on and waits for: the rules without Ray."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.fakes import FACTS
from zip_ray.actors.fleet import STARTS_PER_ACTOR, Fleet
from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError
from zip_ray.protocol.facts import Facts

BUSY = "scorer not built: CUDA error: device busy"


def make_fleet(**cluster: object) -> Fleet:
    """A fleet at time 0."""
    return Fleet(ClusterConfig.model_validate(cluster), now=0.0)


def load(fleet: Fleet, *numbers: int) -> None:
    """Place these actors at time 0 and load them."""
    for number in numbers:
        fleet.place(number, 0.0)
        assert fleet.load(number, FACTS, pid=1000 + number) == ""


def work(fleet: Fleet, *numbers: int) -> None:
    """Load these actors and have each return a result."""
    load(fleet, *numbers)
    for number in numbers:
        fleet.prove(number)


def lose_all_started(fleet: Fleet, places: int = 8, prepare: Callable[[int], None] = lambda _: None) -> list[int]:
    """Fail each actor that the fleet starts, until it starts no more; returns their numbers."""
    lost: list[int] = []
    while numbers := fleet.grow(places, free=places):
        for number in numbers:
            prepare(number)
            fleet.lose(number, BUSY)
        lost += numbers
    return lost


def no_shortage() -> None:
    """The shortage of a cluster that has room for an actor: none."""


def test_it_starts_what_is_missing_and_replaces_what_is_lost() -> None:
    fleet = make_fleet(actors=3)
    assert fleet.grow(8, free=8) == [1, 2, 3]
    assert fleet.grow(8, free=5) == []
    work(fleet, 1, 2, 3)
    fleet.lose(2, "actor lost")
    assert fleet.last_error == "actor 2: actor lost"
    assert fleet.grow(8, free=6) == [4], "a number is given once"
    assert list(fleet.actors) == [1, 3, 4]


def test_an_actor_that_never_starts_is_given_up_while_the_others_work(caplog: pytest.LogCaptureFixture) -> None:
    fleet = make_fleet(actors=2)
    fleet.grow(8, free=8)
    work(fleet, 1)
    fleet.lose(2, BUSY)
    assert lose_all_started(fleet) == [3, 4, 5]
    assert fleet.given_up == [5]
    assert list(fleet.actors) == [1]
    assert [r.getMessage() for r in caplog.records if "no longer replaced" in r.msg] == [
        f"1 actor is no longer replaced; last error: actor 5: {BUSY}"
    ]


def test_an_actor_that_loads_and_is_lost_before_it_answers_counts_as_a_failed_start() -> None:
    fleet = make_fleet(actors=2)
    fleet.grow(8, free=8)
    work(fleet, 1)
    fleet.lose(2, BUSY)
    assert len(lose_all_started(fleet, prepare=lambda number: load(fleet, number))) == STARTS_PER_ACTOR - 1
    assert fleet.given_up == [5]


def test_a_proven_actor_is_replaced_for_ever() -> None:
    fleet = make_fleet(actors=1)
    for number in range(1, 20 * STARTS_PER_ACTOR):
        assert fleet.grow(8, free=8) == [number]
        work(fleet, number)
        fleet.lose(number, "actor lost")
    assert fleet.given_up == []


def test_a_lost_node_is_no_failed_start() -> None:
    fleet = make_fleet(actors=1)
    for number in range(1, 3 * STARTS_PER_ACTOR):
        assert fleet.grow(8, free=8) == [number]
        fleet.lose(number, "actor lost with its node", blameless=True)
    assert fleet.given_up == []


def test_failed_starts_are_forgotten_when_an_actor_is_proven() -> None:
    fleet = make_fleet(actors=2)
    fleet.grow(8, free=8)
    for number in (2, 3, 4):
        fleet.lose(number, BUSY)
        fleet.grow(8, free=8)
    work(fleet, 1)
    fleet.lose(5, BUSY)
    assert fleet.given_up == [], "only one of the four counts"


def test_those_given_up_are_tried_again_when_a_node_comes_or_goes() -> None:
    fleet = make_fleet(actors=2)
    fleet.grow(8, free=8)
    work(fleet, 1)
    fleet.lose(2, BUSY)
    lose_all_started(fleet)
    assert fleet.grow(8, free=7) == []
    assert fleet.grow(9, free=8) == [6]


def test_when_no_actor_starts_it_gives_up() -> None:
    fleet, starts = make_fleet(actors=3), 3 * STARTS_PER_ACTOR
    message = f"^no actor is left after {starts} failed starts; last: actor {starts}: {BUSY}$"
    with pytest.raises(PoolError, match=message):
        lose_all_started(fleet)


def test_auto_starts_as_many_as_find_room_beside_other_programs() -> None:
    """An actor waiting for resources that another program holds would make an autoscaler add nodes without end."""
    fleet = make_fleet(actors="auto")
    assert fleet.grow(places=5, free=3) == [1, 2, 3]
    work(fleet, 1, 2, 3)
    assert fleet.grow(places=5, free=0) == []
    fleet.lose(1, "actor lost")
    assert fleet.grow(places=5, free=1) == [4], "its place is free again, and only that"
    work(fleet, 4)
    assert fleet.grow(places=5, free=2) == [5, 6], "the other program has ended"
    assert fleet.grow(places=4, free=1) == [], "none is ended where a node goes"


def test_auto_starts_one_actor_where_there_is_no_place_and_more_when_a_node_comes() -> None:
    fleet = make_fleet(actors="auto")
    assert fleet.grow(places=0, free=0) == [1], "what an autoscaler reads"
    assert fleet.grow(places=0, free=0) == []
    assert fleet.grow(places=4, free=4) == [2, 3, 4]


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("weights_digest", "1" * 64, "other weights"),
        ("classnames", ("left", "middle"), "other class names"),
        ("images", {"train": 8, "val": 4, "test": 7}, "other images"),
    ],
)
def test_an_actor_with_other_files_than_the_first_is_not_ready(field: str, value: object, what: str) -> None:
    fleet = make_fleet(actors=2)
    fleet.grow(8, free=8)
    load(fleet, 1)
    other: Facts = replace(FACTS, **{field: value})
    assert fleet.load(2, other, pid=1002) == f"it has {what} than the first: put the same files on every node"
    assert fleet.pids == [1001]
    assert fleet.facts == FACTS


def test_an_actor_that_loads_for_too_long_is_overdue_and_one_without_a_place_waits() -> None:
    fleet = make_fleet(actors=3, start_timeout=60)
    fleet.grow(2, free=2)
    load(fleet, 1)
    fleet.place(2, now=10.0)
    assert fleet.overdue(now=70.0) == {}
    assert fleet.overdue(now=70.1) == {2: "not loaded within cluster.start_timeout = 60 s"}


@pytest.mark.parametrize(
    ("actors", "loaded", "enough"), [(2, 0, False), (2, 1, True), ((2, 4), 1, False), ((2, 4), 2, True)]
)
def test_it_waits_for_the_least_number_of_actors(actors: object, loaded: int, enough: bool) -> None:
    fleet = make_fleet(actors=actors, start_timeout=60)
    fleet.grow(8, free=8)
    load(fleet, *range(1, loaded + 1))
    assert fleet.suffices is enough
    fleet.require_enough(60.0, no_shortage)
    if enough:
        fleet.require_enough(1000.0, no_shortage)
    else:
        fewest = fleet.cluster.fewest
        message = (
            rf"^{loaded} of at least {fewest} actors were ready for cluster.start_timeout = 60 s \(last error: none"
        )
        with pytest.raises(PoolError, match=message):
            fleet.require_enough(60.1, no_shortage)


def test_the_wait_begins_when_too_few_are_left() -> None:
    fleet = make_fleet(actors=1, start_timeout=60)
    fleet.grow(8, free=8)
    work(fleet, 1)
    fleet.require_enough(500.0, no_shortage)
    fleet.lose(1, "actor lost", blameless=True)
    fleet.require_enough(510.0, no_shortage)
    fleet.require_enough(570.0, no_shortage)
    with pytest.raises(PoolError, match=r"^0 of at least 1 actors .* \(last error: actor 1: actor lost\)$"):
        fleet.require_enough(570.1, no_shortage)


def test_a_cluster_that_can_place_no_actor_is_the_input_s_fault_until_one_was_ready() -> None:
    lack = "cluster.gpus_per_actor: an actor needs 1 CPU and 2 GPU on one node"
    fleet = make_fleet(actors=1, start_timeout=60)
    fleet.grow(0, free=0)
    with pytest.raises(InputError, match=f"^{lack}$"):
        fleet.require_enough(61.0, lambda: lack)
    load(fleet, 1)
    fleet.require_enough(70.0, lambda: lack)
    fleet.lose(1, "actor lost", blameless=True)
    fleet.require_enough(80.0, lambda: lack)
    with pytest.raises(PoolError, match=rf"\(last error: {lack}\)$"):
        fleet.require_enough(141.0, lambda: lack)


def test_each_loss_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    fleet = make_fleet(actors=1)
    fleet.grow(8, free=8)
    with caplog.at_level(logging.WARNING):
        fleet.lose(1, BUSY)
    assert [r.getMessage() for r in caplog.records] == [f"actor 1 is lost ({BUSY})"]
