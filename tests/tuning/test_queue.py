"""The queue of asks: numbers, room, whole steps, staleness; every charged result is used, dropped or waits."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.asking import answer, make_optimizer, options_of
from zip_ray.config.execution import ExecutionConfig
from zip_ray.optimizers import OptimizerState
from zip_ray.protocol.messages import Ask, AskResult, Pair
from zip_ray.protocol.perturbations import perturbation
from zip_ray.tuning.ledger import Account, Ledger
from zip_ray.tuning.queue import Queue, StepResults

SYNC = ExecutionConfig()


def asynchronous(in_flight: int, max_staleness: int = 256) -> ExecutionConfig:
    return ExecutionConfig(mode="async", in_flight=in_flight, max_staleness=max_staleness)


class Run:
    """Passes an optimiser's asks and results through a queue, by hand."""

    def __init__(
        self,
        execution: ExecutionConfig = SYNC,
        budget: int | None = None,
        last_step: int | None = None,
        asked: int = 0,
        steps: int = 0,
        **options: Any,
    ) -> None:
        self.optimizer = make_optimizer(options_of(**options), seed=2)
        self.state = OptimizerState(np.zeros(6), steps=steps)
        self.ledger = Ledger(budget)
        self.queue = Queue(self.optimizer, execution, self.ledger, steps, asked, last_step)

    def ask(self, most: int = 1, crops: Any = None) -> tuple[Ask, ...]:
        """The next pass."""
        return self.queue.next_pass(self.state, most, crops)

    def ask_all(self, most: int = 1) -> list[tuple[Ask, ...]]:
        """All passes that can be requested now."""
        return list(iter(lambda: self.ask(most), ()))

    def take(self, *asks: Ask, attempts: int = 1) -> list[StepResults]:
        """Deliver the results of a pass, and make the steps they complete."""
        steps = []
        for results in self.queue.take(asks, [answer(ask) for ask in asks], attempts):
            self.state, _ = self.optimizer.tell(self.state, results.told)
            steps.append(results)
        return steps


def numbers(passes: list[tuple[Ask, ...]]) -> list[list[int]]:
    return [[ask.index for ask in asks] for asks in passes]


def test_asks_are_numbered_from_zero_and_a_step_waits_for_all_its_results() -> None:
    run = Run(pairs_per_step=3)
    first = run.ask_all()
    assert numbers(first) == [[0], [1], [2]]
    assert [asks[0].version for asks in first] == [0, 0, 0]
    assert [run.take(*asks) for asks in (first[2], first[0])] == [[], []]
    assert run.ask() == (), "of the next step nothing is asked yet"
    (results,) = run.take(*first[1])
    assert [one.ask.index for one in results.told] == [0, 1, 2], "in the order of asking"
    assert (results.staleness, results.dropped) == (0, 0)
    second = run.ask_all()
    assert numbers(second) == [[3], [4], [5]]
    assert [asks[0].version for asks in second] == [1, 1, 1]


def test_a_pass_holds_as_many_as_share_it_and_fewer_at_the_end_of_a_step() -> None:
    run = Run(pairs_per_step=5)
    assert numbers(run.ask_all(most=2)) == [[0, 1], [2, 3], [4]]
    assert run.queue.out == 5
    assert numbers(Run(pairs_per_step=5).ask_all(most=9)) == [[0, 1, 2, 3, 4]]


def test_asynchronously_so_many_are_in_flight_and_any_results_make_a_step() -> None:
    run = Run(asynchronous(in_flight=5), pairs_per_step=2)
    passes = run.ask_all()
    assert numbers(passes) == [[0], [1], [2], [3], [4]]
    assert run.queue.room == 0
    assert run.take(*passes[4]) == []
    assert numbers(run.ask_all()) == [[5]]
    (results,) = run.take(*passes[1])
    assert [one.ask.index for one in results.told] == [1, 4]
    (after,) = run.ask_all()
    assert (after[0].version, after[0].step) == (1, 2)
    assert run.take(*passes[0]) == []
    (results,) = run.take(*after)
    assert results.staleness == 0.5, "the mean of 1 and 0"


def test_asynchronously_passes_are_whole_as_far_as_the_budget_allows() -> None:
    """Results arrive one pass at a time, so smaller passes would stay small."""
    run = Run(asynchronous(in_flight=8), budget=22, pairs_per_step=1)
    passes = run.ask_all(most=3)
    assert numbers(passes) == [[0, 1, 2], [3, 4, 5]], "two more are no whole pass"
    run.take(*passes[0])
    assert numbers(run.ask_all(most=3)) == [[6, 7, 8]]
    run.take(*passes[1])
    assert numbers(run.ask_all(most=3)) == [[9, 10]], "all that the budget has left"


def test_results_that_are_too_stale_are_charged_and_dropped() -> None:
    run = Run(asynchronous(in_flight=4, max_staleness=1), pairs_per_step=1)
    old, *others = run.ask_all()
    assert [results.staleness for asks in others for results in run.take(*asks)] == [0, 1], "the third is of step 0"
    assert run.queue.dropped == 1
    assert run.take(*old) == []
    assert run.queue.dropped == 2
    assert run.ledger.account == Account(issued=8, completed=8, charged=8)
    (fresh,) = run.ask_all()[:1]
    (results,) = run.take(*fresh)
    assert (results.staleness, results.dropped) == (0, 2)
    assert run.queue.dropped == 0, "counted once"


def in_rounds(share: float) -> dict[str, Any]:
    """Settings of asynchronous rounds of twelve queries."""
    execution = ExecutionConfig(mode="async", round_share=share)
    return {"execution": execution, "method": "gauss-newton", "round_queries": 12}


def test_a_round_closes_when_its_share_is_there_and_what_is_late_is_charged_and_dropped() -> None:
    run = Run(**in_rounds(0.75))
    passes = run.ask_all()
    assert numbers(passes) == [[k] for k in range(12)]
    order = [5, 11, 3, 0, 1, 2, 4, 6]
    assert not any(run.take(*passes[place]) for place in order)
    assert run.ask() == (), "of the next round nothing is asked yet"
    (results,) = run.take(*passes[7])
    assert [one.ask.index for one in results.told] == sorted([*order, 7])
    assert (results.staleness, results.dropped) == (0, 0)
    after = run.ask_all()
    assert numbers(after) == [[k] for k in range(12, 24)]
    assert {asks[0].version for asks in after} == {1}
    assert run.take(*passes[8], attempts=2) == []
    assert run.ledger.account == Account(issued=25, completed=10, charged=10, wasted=1)
    closed = [results for asks in after for results in run.take(*asks)]
    assert [(len(one.told), one.dropped) for one in closed] == [(9, 1)]
    assert run.take(*passes[9]) == []
    assert run.queue.dropped == 3 + 1, "of either round"
    assert run.queue.out == 1


def test_a_round_takes_whole_passes() -> None:
    run = Run(**in_rounds(0.75))
    passes = run.ask_all(most=5)
    assert numbers(passes) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert run.take(*passes[2]) == []
    assert run.take(*passes[0]) == []
    (results,) = run.take(*passes[1])
    assert len(results.told) == 12


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0.5, 1),
    most=st.integers(1, 5),
    budget=st.one_of(st.none(), st.integers(0, 100)),
    last_step=st.one_of(st.none(), st.integers(1, 6)),
)
def test_every_answer_of_a_round_is_used_or_dropped(
    seed: int, share: float, most: int, budget: int | None, last_step: int | None
) -> None:
    """Results arrive in any order; late ones may be several rounds behind."""
    draw = random.Random(seed)
    run = Run(**in_rounds(share), budget=budget, last_step=last_step)
    out, used, dropped = list[tuple[Ask, ...]](), 0, 0
    for _ in range(60):
        out += run.ask_all(most)
        if not out:
            break
        for results in run.take(*out.pop(draw.randrange(len(out)))):
            assert math.ceil(12 * share) <= len(results.told) <= 12
            assert len({one.ask.version for one in results.told}) == 1
            assert results.staleness == 0
            used, dropped = used + len(results.told), dropped + results.dropped
    for asks in out:
        for results in run.take(*asks):
            used, dropped = used + len(results.told), dropped + results.dropped
    assert used + dropped + run.queue.dropped == run.ledger.account.charged == run.queue.asked
    assert run.queue.asked == 12 * run.state.steps
    assert budget is None or run.ledger.account.charged <= budget
    assert last_step is None or run.state.steps <= last_step
    if budget is not None and (last_step is None or 12 * last_step > budget) and not out:
        assert run.state.steps == budget // 12


def test_a_pass_may_complete_several_steps() -> None:
    run = Run(asynchronous(in_flight=5), pairs_per_step=2)
    (asks,) = run.ask_all(most=5)
    steps = run.take(*asks)
    assert [[one.ask.index for one in results.told] for results in steps] == [[0, 1], [2, 3]]
    assert [results.staleness for results in steps] == [0, 1]
    (results,) = run.take(*run.ask())
    assert [one.ask.index for one in results.told] == [4, 5]


def test_results_come_with_how_often_they_were_issued() -> None:
    run = Run(pairs_per_step=2)
    (asks,) = run.ask_all(most=2)
    run.take(*asks, attempts=3)
    assert run.ledger.account == Account(issued=12, completed=4, charged=4, wasted=8)


@pytest.mark.parametrize(("budget", "asked"), [(11, 5), (12, 5), (20, 10), (9, 0)])
def test_a_step_for_which_there_are_not_enough_queries_is_not_begun(budget: int, asked: int) -> None:
    run = Run(budget=budget, pairs_per_step=5)
    while passes := run.ask_all():
        assert run.queue.admits_step or not run.queue.room
        for asks in passes:
            run.take(*asks)
    assert not run.queue.admits_step
    assert run.queue.asked == asked
    assert run.ledger.account.charged == 2 * asked


def test_asynchronously_the_budget_has_room_beside_what_is_in_flight() -> None:
    run = Run(asynchronous(in_flight=8), budget=9, pairs_per_step=2)
    passes = run.ask_all()
    assert numbers(passes) == [[0], [1], [2], [3]], "of the last query no step can be made"
    for asks in passes:
        run.take(*asks)
    assert run.ask() == ()


@pytest.mark.parametrize("in_flight", [2, 4, 8])
def test_nothing_is_asked_beyond_the_last_step(in_flight: int) -> None:
    run = Run(asynchronous(in_flight), last_step=3, pairs_per_step=3)
    passes = run.ask_all()
    while passes:
        run.take(*passes.pop(0))
        passes += run.ask_all()
    assert run.state.steps == 3
    assert run.queue.asked == 9


def test_what_was_dropped_is_asked_again_where_steps_are_the_budget() -> None:
    run = Run(asynchronous(in_flight=8, max_staleness=0), last_step=3, pairs_per_step=1)
    while passes := run.ask_all():
        for asks in reversed(passes):
            run.take(*asks)
    assert run.state.steps == 3
    assert run.queue.asked > 3


@pytest.mark.parametrize(("asked", "next_number"), [(0, 0), (5, 5), (6, 10), (10, 10)])
def test_a_resumed_run_continues_with_the_numbers_of_the_next_step(asked: int, next_number: int) -> None:
    """Asks in flight are lost, and their numbers are not reused."""
    run = Run(asynchronous(in_flight=3), asked=asked, steps=1, pairs_per_step=5)
    passes = run.ask_all()
    assert [asks[0].index for asks in passes] == [next_number, next_number + 1, next_number + 2]
    assert passes[0][0].version == 1
    assert passes[0][0].batch == next_number // 5 + 1


def test_asks_wait_for_their_crops_and_carry_them() -> None:
    ready = {1: np.ones((3, 2), np.float32)}
    run = Run(pairs_per_step=2)
    (asks,) = [run.ask(most=4, crops=ready.get)]
    assert [ask.index for ask in asks] == [0, 1]
    assert all(ask.features is ready[1] for ask in asks)
    run.take(*asks)
    assert run.ask(most=4, crops=ready.get) == ()
    assert (run.queue.out, run.queue.asked, run.ledger.held) == (0, 2, 0), "nothing is paid for what waits"
    ready[2] = np.zeros((3, 2), np.float32)
    assert [ask.index for ask in run.ask(most=4, crops=ready.get)] == [2, 3]


@pytest.mark.parametrize("ready", [[1, 2], [1]])
def test_synchronously_no_pass_spans_two_mini_batches(ready: list[int]) -> None:
    """Otherwise the bits would depend on which crops happen to be ready."""
    crops = dict.fromkeys(ready, np.ones((3, 2), np.float32))
    run = Run(method="cma-es", population=6, fitness_batches=2)
    assert run.queue.next_batch == 1
    passes = [run.ask(most=4, crops=crops.get) for _ in range(2)]
    assert numbers(passes) == [[0, 1, 2, 3], [4, 5]]
    assert run.queue.next_batch == 2
    assert [ask.batch for asks in passes for ask in asks] == [1] * 6


@pytest.mark.parametrize("pairs", [1, 3])
def test_an_asynchronous_update_equals_a_hand_written_one(pairs: int) -> None:
    """Out of order, from three versions of w: each estimate uses its own w and c; one mean, one step size."""
    run = Run(asynchronous(in_flight=9), method="spsa", pairs_per_step=pairs, step_size=0.5)
    slope = np.arange(1.0, 7.0)
    w, steps, asked = np.zeros(6), 0, list[Pair]()
    for order in ([4, 0, 7], [1, 3, 8], [2, 2, 2]):
        for (pair,) in run.ask_all():
            assert isinstance(pair, Pair)
            assert (pair.version, pair.step) == (steps, steps + 1)
            assert pair.scale == 0.01 / (steps + 1) ** 0.1
            np.testing.assert_allclose(pair.w, w, rtol=1e-12)
            asked.append(pair)
        told: list[Pair] = []
        for place in order:
            pair = asked.pop(place % len(asked))
            told.append(pair)
            rise = pair.scale * float(slope @ perturbation(pair.perturbation, 6))
            for results in run.queue.take([pair], [AskResult((rise, -rise), 1.0)], 1):
                run.state, _ = run.optimizer.tell(run.state, results.told)
            if len(told) == pairs:
                estimates = [float(slope @ z) / z for z in (perturbation(p.perturbation, 6) for p in told)]
                steps += 1
                w = w - 0.5 / (steps + 1) ** 0.4 * np.mean(estimates, axis=0)
                told = []
                np.testing.assert_allclose(run.state.w, w, rtol=1e-12)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    execution=st.one_of(
        st.just(SYNC), st.builds(asynchronous, in_flight=st.integers(1, 20), max_staleness=st.integers(0, 4))
    ),
    pairs=st.integers(1, 5),
    most=st.integers(1, 4),
    budget=st.one_of(st.none(), st.integers(0, 120)),
    last_step=st.one_of(st.none(), st.integers(1, 20)),
)
def test_every_charged_result_is_used_once_dropped_or_waits(
    seed: int, execution: ExecutionConfig, pairs: int, most: int, budget: int | None, last_step: int | None
) -> None:
    draw = random.Random(seed)
    most = min(most, execution.in_flight) if execution.mode == "async" else most
    run = Run(execution, budget, last_step, pairs_per_step=pairs)
    out: list[tuple[Ask, ...]] = []
    asked, used, taken, dropped = list[int](), list[int](), 0, 0
    for _ in range(120):
        while (room := run.queue.room) > 0 and draw.random() < 0.9 and (asks := run.ask(most)):
            assert len(asks) <= min(most, room)
            asked += [ask.index for ask in asks]
            out.append(asks)
        in_flight = sum(map(len, out))
        assert run.queue.out == in_flight
        assert in_flight <= (execution.in_flight if execution.mode == "async" else pairs)
        if not out:
            continue
        asks = out.pop(draw.randrange(len(out)))
        taken += len(asks)
        for results in run.take(*asks):
            assert len(results.told) == pairs
            assert results.told == sorted(results.told, key=lambda one: one.ask.index)
            assert 0 <= results.staleness <= (0 if execution.mode == "sync" else execution.max_staleness)
            used += [one.ask.index for one in results.told]
            dropped += results.dropped
        waiting = taken - len(used) - dropped - run.queue.dropped
        assert 0 <= waiting < pairs
        account = run.ledger.account
        assert (account.charged, account.issued, account.wasted) == (2 * taken, 2 * (taken + sum(map(len, out))), 0)
    assert asked == list(range(len(asked))), "numbers are given once, in order"
    assert len(set(used)) == len(used)
    assert set(used) <= set(asked)
    assert budget is None or run.ledger.account.charged + run.ledger.held <= budget
    if execution.mode == "sync":
        assert used == list(range(len(used)))
        assert dropped == run.queue.dropped == 0
    if last_step is not None:
        assert run.state.steps <= last_step
