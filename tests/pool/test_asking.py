"""Tests of a prompt: in parts for large test sets, with the same accuracy as in one piece."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.configs import zip_config
from tests.support.fakes import FakeScorer, evaluation_work, pair_work
from tests.support.painted import COLOURS, paint
from tests.support.pools import RecordingPool, ShuffledPool
from zip_ray.pool import asking
from zip_ray.pool.asking import TESTED_TOGETHER, accuracy_on_test, ask
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import (
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    Priority,
    Value,
    Work,
    new_work,
)
from zip_ray.scorer.scorer import build_scorer

RIGHT = np.random.default_rng(1).random(2500) < 0.3


class ManyImages(FakeScorer):
    """Right on some images; checks that it is never asked for more than it can do in time."""

    def answer(self, work: Work) -> Value:
        assert isinstance(work.body, Evaluation)
        assert work.body.part is not None
        mine = RIGHT[slice(*work.body.part)]
        assert len(mine) <= TESTED_TOGETHER
        return EvaluationResult(1.0, float(np.float32(mine.mean())), len(mine))


def test_parts_are_put_together_exactly() -> None:
    looks: list[tuple[int, int]] = []
    pool = RecordingPool(ShuffledPool(5, ManyImages()))
    found = accuracy_on_test(pool, "a {}.", len(RIGHT), lambda *parts: looks.append(parts))
    assert found == RIGHT.mean()
    assert looks[-1] == (3, 3)
    assert looks == sorted(looks)
    assert len(pool.submitted) == 3
    assert {work.priority for work in pool.submitted} == {Priority.EVALUATION}


def test_answers_to_what_was_given_up_before_are_let_go() -> None:
    pool = InProcessPool(FakeScorer)
    pool.submit([evaluation_work(), pair_work(0)])
    assert ask(pool, Encoding(np.zeros(6)), EncodingResult).text_features.shape == (2, 8)
    assert accuracy_on_test(pool, np.ones(6), 6) == 1.0


@pytest.mark.parametrize("space", ["low-rank", "frame"])
def test_the_figure_is_that_of_one_piece(monkeypatch: pytest.MonkeyPatch, space: str, tmp_path: Path) -> None:
    """For texts and for prompted images, and over all images, not a part."""
    for colour in COLOURS:
        for part, count in (("train", 8), ("test", 5)):
            for number in range(count):
                paint(tmp_path / part / colour / f"{number}.png", colour)
    task = {"name": "folder", "root": str(tmp_path), "shots": 4}
    config = zip_config({"cluster": {"pool": "in-process"}, "task": task, "prompt": {"space": space}}, "test")
    scorer = build_scorer(config)
    facts, pool = scorer.facts(), InProcessPool(lambda: scorer)
    w, images = make_space(config.prompt, facts.shape, config.seed).initial(), facts.images["test"]

    def evaluate(part: tuple[int, int] | None) -> EvaluationResult:
        value = scorer.answer(new_work(Evaluation("test", w, part), Priority.EVALUATION))
        assert isinstance(value, EvaluationResult)
        return value

    whole = accuracy_on_test(pool, w, images)
    assert whole == evaluate(None).accuracy
    monkeypatch.setattr(asking, "TESTED_TOGETHER", images // 3)
    assert accuracy_on_test(pool, w, images) == pytest.approx(whole, abs=1e-7)
    assert evaluate((0, images // 3)).images == images // 3
