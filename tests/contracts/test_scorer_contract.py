"""The small CLIP, and a black box, satisfy the scorer contract."""

from collections.abc import Sequence

import numpy as np
import pytest

from zip_ray.config.merging import merge
from zip_ray.config.model import ScorerOptions
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import ScorerLike
from zip_ray.protocol.facts import Prompt, Split
from zip_ray.protocol.messages import Crops, Priority, new_work
from zip_ray.scorer.black_box import BlackBoxScorer
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tasks import load_task
from zip_ray.testing import ScorerContract


class TestSmallClip(ScorerContract):
    def make_scorer(self, config: Config) -> ScorerLike:
        return build_scorer(config)


class Linear(BlackBoxScorer):
    """Scores are a fixed random map of the sum of the context, the image's number and the class."""

    class Options(ScorerOptions):
        """A black box."""

    identity = "linear 1"

    def embed(self, words: str) -> np.ndarray:
        return np.array([[len(word) + place for place in range(64)] for word in words.split()], np.float32) / 100

    def scores(self, prompts: Sequence[Prompt | str], split: Split, images: np.ndarray) -> np.ndarray:
        contexts = [self.embed(one) if isinstance(one, str) else one.context for one in prompts]
        size = len(self.splits[split]), len(self.task.classnames), 64
        fixed = np.random.default_rng(len(split)).standard_normal(size)[images]
        return np.stack([fixed @ np.asarray(one, np.float64).sum(axis=0) for one in contexts])


class TestBlackBox(ScorerContract):
    def make_scorer(self, config: Config) -> ScorerLike:
        return Linear(Linear.Options(), load_task(config.task, config.seed), config)

    @pytest.mark.parametrize(
        ("section", "said"),
        [
            ({"task": {"views": 2}}, r"^task.views: 2: this scorer makes no crops: leave it out$"),
            ({"prompt": {"space": "frame"}}, r"^prompt.space: 'frame' prompts images: choose a space of contexts$"),
            ({"prompt": {"init": "./first"}}, r"^prompt.init: '.*first': this scorer starts from words or at random$"),
        ],
    )
    def test_what_it_does_not_offer_is_refused(self, section: dict, said: str) -> None:
        config = validate(merge(self.tree, section), "")
        with pytest.raises(InputError, match=said):
            self.make_scorer(config)

    def test_work_that_scores_do_not_suffice_for_is_refused(self) -> None:
        _, scorer, _ = self.scorer()
        with pytest.raises(InputError, match=r"^model.scorer: it gives class scores only"):
            scorer.answer(new_work(Crops(1), Priority.PREFETCH))
