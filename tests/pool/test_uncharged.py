"""Tests of a prompt: in parts where the images are many, and the same figure as in one piece."""

import numpy as np
import pytest

from tests.support.fakes import FakeScorer
from tests.support.pools import ShuffledPool
from zip_ray.config.reading import validate
from zip_ray.pool import uncharged as evaluation
from zip_ray.pool.contract import InProcessPool
from zip_ray.pool.uncharged import TESTED_TOGETHER, accuracy_on_test
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Result, Work
from zip_ray.scorer.scorer import build_scorer

RIGHT = np.random.default_rng(1).random(2 * TESTED_TOGETHER + 452) < 0.3


class ManyImages(FakeScorer):
    """Right on some of its images, and never asked of more than it can do in time."""

    def answer(self, work: Work) -> Result:
        assert isinstance(work, Evaluation)
        assert work.part is not None
        mine = RIGHT[slice(*work.part)]
        assert len(mine) <= TESTED_TOGETHER
        return EvaluationResult(work.id, 1.0, float(np.float32(mine.mean())), len(mine))


def test_parts_are_put_together_exactly() -> None:
    looks = []
    found = accuracy_on_test(ShuffledPool(5, ManyImages()), "a {}.", len(RIGHT), lambda: looks.append(None))
    assert found == RIGHT.mean()
    assert len(looks) >= 1


@pytest.mark.parametrize("space", ["low-rank", "frame"])
def test_the_figure_is_that_of_one_piece(monkeypatch: pytest.MonkeyPatch, space: str) -> None:
    """Of texts and of images that are changed; and of all images, not of a part."""
    config = validate({"cluster": {"pool": "in-process"}, "task": {"shots": 4}, "prompt": {"space": space}}, "test")
    scorer = build_scorer(config)
    facts, pool = scorer.facts(), InProcessPool(lambda: scorer)
    w, images = make_space(config, facts.shape).initial(), facts.images["test"]
    whole = accuracy_on_test(pool, w, images)
    assert whole == scorer.answer(Evaluation(-1, "test", w)).accuracy
    monkeypatch.setattr(evaluation, "TESTED_TOGETHER", images // 3)
    assert accuracy_on_test(pool, w, images) == pytest.approx(whole, abs=1e-7)
    assert scorer.answer(Evaluation(-1, "test", w, (0, images // 3))).images == images // 3
