"""The contract of every pool: one result per id, the lowest (priority, id) first, errors of the input reported."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from zip_ray.errors import InputError
from zip_ray.pool.asking import ask
from zip_ray.pool.contract import Pool, ScorerLike
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import (
    Answer,
    Crops,
    CropsResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    FactsRequest,
    Pass,
    Priority,
    Slice,
    Value,
    Work,
    new_work,
)
from zip_ray.testing.fake_scorer import FACTS, FakeScorer, evaluation_work, make_pair, pair_work, refused_build


class PoolContract:
    """Tests of a pool, over scorers without a model."""

    def make_pool(self, build: Callable[[], ScorerLike], scorers: int) -> Pool:
        """The pool, whose scorers `build` makes.

        Args:
            build: runs where the scorer is to be; may be pickled.
            scorers: how many; a pool of a single one has that.
        """
        raise NotImplementedError

    def setup_method(self) -> None:
        self._opened: list[Pool] = []

    def teardown_method(self) -> None:
        for pool in self._opened:
            pool.close()

    def pool(self, build: Callable[[], ScorerLike], scorers: int = 1) -> Pool:
        """A pool that is closed when the test ends."""
        self._opened.append(self.make_pool(build, scorers))
        return self._opened[-1]

    def test_each_id_is_answered_exactly_once(self) -> None:
        pool = self.pool(FakeScorer, scorers=2)
        works = {work.id: work for work in (pair_work(index, step=1 + index // 5) for index in range(23))}
        ids = list(works)
        pool.submit([works[identity] for identity in ids[:13]])
        answers = drain(pool, 5)
        pool.submit([works[identity] for identity in ids[13:]])
        assert pool.facts().template == FACTS.template, "asked with work in flight"
        answers += drain(pool, 23 - len(answers))
        assert sorted(answer.id for answer in answers) == ids
        assert pool.collect(0.1) == []
        for answer in answers:
            assert answer.attempts == 1
            value, expected = answer.value, FakeScorer().answer(works[answer.id])
            assert isinstance(value, tuple)
            assert isinstance(expected, tuple)
            assert value[0].losses == pytest.approx(expected[0].losses, rel=1e-12)

    def test_a_pass_is_answered_in_the_order_of_its_asks(self) -> None:
        pool = self.pool(FakeScorer)
        work = new_work(Pass((make_pair(7), make_pair(2), make_pair(5))), Priority.QUERY)
        pool.submit([work])
        (answer,) = drain(pool, 1)
        expected = FakeScorer().answer(work)
        assert isinstance(answer.value, tuple)
        assert isinstance(expected, tuple)
        for result, alone in zip(answer.value, expected, strict=True):
            assert result.losses == pytest.approx(alone.losses, rel=1e-12)

    def test_answers_every_kind_of_work(self) -> None:
        pool = self.pool(FakeScorer)
        works = [
            pair_work(0),
            evaluation_work("test", "a drawing of a {}."),
            new_work(Encoding(np.zeros(6)), Priority.EVALUATION),
            new_work(Crops(3), Priority.PREFETCH),
        ]
        pool.submit(works)
        values = {answer.id: answer.value for answer in drain(pool, 4)}
        passed, evaluated, encoded, cropped = (values[work.id] for work in works)
        assert isinstance(passed, tuple)
        assert isinstance(evaluated, EvaluationResult)
        assert evaluated.images == 6
        assert isinstance(encoded, EncodingResult)
        assert encoded.text_features.shape == (2, 8)
        assert isinstance(cropped, CropsResult)
        assert cropped.features.shape == (3, 2)

    def test_facts_of_a_start_and_scores_of_an_evaluation_are_answers(self) -> None:
        pool = self.pool(FakeScorer, scorers=2)
        assert ask(pool, FactsRequest("a {}."), Facts).template == FACTS.template
        found = ask(pool, Evaluation("test", np.zeros(6), scores=True), EvaluationResult)
        assert found.scores is not None
        assert found.scores.shape == (6, 2)

    def test_of_what_waits_the_lowest_priority_and_id_is_begun_first(self, tmp_path: Path) -> None:
        pool = self.pool(partial(DiaryScorer, delay=0.02, marks=tmp_path))
        pool.facts()
        works = [make(number) for number in range(4) for make in (pair_work, crops_work, numbered_question)]
        pool.submit(works)
        assert len(drain(pool, len(works))) == len(works)
        assert diary(tmp_path) == begins(works)

    def test_what_is_urgent_is_begun_before_what_waits(self, tmp_path: Path) -> None:
        pool = self.pool(partial(DiaryScorer, delay=0.05, marks=tmp_path))
        pool.facts()
        pool.submit([pair_work(number) for number in range(20)])
        answers = drain(pool, 1)
        urgent = evaluation_work()
        pool.submit([urgent])
        answers += drain(pool, 21 - len(answers))
        assert len(answers) == 21
        assert diary(tmp_path)[-1] != name_of(urgent)

    def test_an_id_cannot_be_in_flight_twice(self) -> None:
        pool = self.pool(partial(FakeScorer, delay=0.05))
        works = [pair_work(index) for index in range(8)]
        pool.submit(works)
        with pytest.raises(ValueError, match=f"work {works[7].id} is in flight already"):
            pool.submit([works[7]])
        assert sorted(answer.id for answer in drain(pool, 8)) == [work.id for work in works]

    def test_of_works_that_are_refused_none_is_taken(self) -> None:
        """Work given twice or already in flight, among work that is not."""
        pool = self.pool(partial(FakeScorer, delay=0.05))
        first, other, evaluation = pair_work(0), pair_work(1), evaluation_work()
        with pytest.raises(ValueError, match=f"work {other.id} is in flight already"):
            pool.submit([first, other, other])
        assert pool.collect(0.0) == []
        pool.submit([first, evaluation])
        with pytest.raises(ValueError, match=f"work {evaluation.id} is in flight already"):
            pool.submit([other, evaluation])
        pool.submit([other])
        assert sorted(answer.id for answer in drain(pool, 3)) == sorted([first.id, other.id, evaluation.id])
        assert pool.collect(0.0) == []

    def test_facts_are_those_of_the_scorer(self) -> None:
        facts = self.pool(FakeScorer).facts()
        assert (facts.classnames, facts.template, facts.images) == (FACTS.classnames, FACTS.template, FACTS.images)

    def test_nothing_outstanding_is_an_empty_collection(self) -> None:
        assert self.pool(FakeScorer).collect(5.0) == []

    def test_a_refusal_while_building_reaches_the_user(self) -> None:
        with pytest.raises(InputError, match=r"^model.name: 'nope' cannot be loaded: give another$"):
            self.pool(refused_build).facts()

    def test_a_refusal_while_working_reaches_the_user(self) -> None:
        pool = self.pool(partial(FakeScorer, input_error_at=1), scorers=2)
        pool.submit([pair_work(index) for index in range(3)])
        with pytest.raises(InputError, match=r"^images/cat.png: unreadable image: replace it$"):
            drain(pool, 3)

    def test_closing_twice_is_harmless(self) -> None:
        pool = self.pool(FakeScorer)
        pool.facts()
        pool.close()
        pool.close()


def drain(pool: Pool, count: int) -> list[Answer]:
    """That many answers, or those that have arrived within ten minutes."""
    answers: list[Answer] = []
    for _ in range(1200):
        if len(answers) >= count:
            break
        answers += pool.collect(0.5)
    return answers


@dataclass(frozen=True)
class DiaryScorer(FakeScorer):
    """Logs the work it begins in a file; consecutive parts of one pass count as one."""

    def answer(self, work: Work) -> Value:
        assert self.marks is not None
        with (self.marks / "diary").open("a") as file:
            print(name_of(work), file=file)
        return super().answer(work)


def name_of(work: Work) -> str:
    """The work's kind and number."""
    match work.body:
        case Pass(asks) | Slice(asks):
            return f"pass {asks[0].index}"
        case Crops(batch):
            return f"crops {batch}"
        case Evaluation(_, prompt):
            return f"evaluation {prompt}"
    return work.body.kind


def diary(marks: Path) -> list[str]:
    """The work begun, in order."""
    lines = (marks / "diary").read_text().splitlines()
    return [line for place, line in enumerate(lines) if place == 0 or line != lines[place - 1]]


def begins(works: Iterable[Work]) -> list[str]:
    """The order in which waiting work must begin."""
    return [name_of(work) for work in sorted(works, key=lambda work: (work.priority, work.id))]


def crops_work(batch: int) -> Work:
    return new_work(Crops(batch), Priority.PREFETCH)


def numbered_question(number: int) -> Work:
    return evaluation_work(prompt=f"question {number}: {{}}")
