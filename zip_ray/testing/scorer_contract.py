"""The contract of every scorer: losses follow from its scores, and the same work has the same result."""

from typing import Any

import numpy as np
from scipy.special import logsumexp

from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.pool.contract import ScorerLike
from zip_ray.prompts import make_space
from zip_ray.protocol.arrays import Float64, Int64
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import (
    Ask,
    AskResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    FactsRequest,
    Pair,
    Pass,
    Perturbation,
    Priority,
    Query,
    ScoresWanted,
    TemplateQuery,
    new_work,
)
from zip_ray.protocol.mini_batches import asked_images
from zip_ray.protocol.perturbations import points


class ScorerContract:
    """Tests of a scorer on a small task."""

    tree: dict[str, Any] = {  # noqa: RUF012 - a class of a third party has another
        "task": {"name": "digits", "shots": 2, "batch_size": 12},
        "optimizer": {"method": "spsa"},
        "cluster": {"pool": "in-process"},
    }
    """The config of the run that is scored, as plain values."""

    def make_scorer(self, config: Config) -> ScorerLike:
        """The scorer of a run with this config."""
        raise NotImplementedError

    def scorer(self) -> tuple[Config, ScorerLike, Float64]:
        """The config, its scorer, and parameters near the start."""
        config = validate(self.tree, "")
        scorer = self.make_scorer(config)
        space = make_space(config.prompt, scorer.facts().shape, config.seed)
        return config, scorer, space.initial() + 0.01 * np.random.default_rng(0).standard_normal(space.dimension)

    def test_facts_fit_together(self) -> None:
        facts = self.scorer()[1].facts()
        assert facts.images["train"] == len(facts.labels)
        assert facts.images["val"] == len(facts.val_labels)
        assert {*facts.labels.tolist()} <= {*range(len(facts.classnames))}
        assert facts.templates[0] == facts.template
        assert facts.template.count("{}") == 1
        assert facts.difference(facts) == ""

    def test_facts_of_a_start_have_its_context(self) -> None:
        _, scorer, _ = self.scorer()
        found = scorer.answer(new_work(FactsRequest("a drawing of a {}, in ink"), Priority.EVALUATION))
        assert isinstance(found, Facts)
        assert found.suffix == ", in ink"
        assert found.shape.initial_context.shape[1] == scorer.facts().shape.initial_context.shape[1]

    def test_losses_are_the_cross_entropies_of_the_scores(self) -> None:
        config, scorer, w = self.scorer()
        pair = Pair(
            **self.common(w), scale=0.01, perturbation=Perturbation("random-sign", 1, 1, 0), scores=ScoresWanted()
        )
        sentence = TemplateQuery(**self.common(w), template="a {}.", chunk=0, scores=ScoresWanted())
        for ask, result in ((ask, self.result(scorer, ask)) for ask in (pair, sentence)):
            labels = self.labels(config, scorer, ask)
            assert result.scores is not None
            assert result.scores.shape == (len(result.losses), len(labels), len(scorer.facts().classnames))
            np.testing.assert_allclose(self.cross_entropies(result, labels), result.losses, atol=1e-4)
            share = (result.scores.argmax(axis=2) == labels).mean()
            assert abs(result.accuracy - share) < 1e-6

    def test_a_pair_is_two_queries(self) -> None:
        _, scorer, w = self.scorer()
        pair = Pair(**self.common(w), scale=0.01, perturbation=Perturbation("random-sign", 1, 1, 0))
        alone = [self.result(scorer, Query(**self.common(point))).losses[0] for point in points(pair)]
        np.testing.assert_allclose(self.result(scorer, pair).losses, alone, atol=1e-4)

    def test_chosen_classes_keep_the_cross_entropy(self) -> None:
        config, scorer, w = self.scorer()
        plain = Query(**self.common(w))
        labels = self.labels(config, scorer, plain)
        classes = len(scorer.facts().classnames)
        chosen = np.stack([labels, (labels + 1) % classes], axis=1).astype(np.int32)
        kept = self.result(scorer, Query(**self.common(w), scores=ScoresWanted(chosen)))
        assert kept.scores is not None
        assert kept.scores.shape == (1, len(labels), 3)
        own = np.zeros(len(labels), dtype=np.int64)
        np.testing.assert_allclose(self.cross_entropies(kept, own), self.result(scorer, plain).losses, atol=1e-4)

    def test_the_same_work_has_the_same_answer(self) -> None:
        _, scorer, w = self.scorer()
        ask = Query(**self.common(w))
        assert self.result(scorer, ask) == self.result(scorer, ask) == self.result(self.scorer()[1], ask)

    def test_an_evaluation_is_of_all_images_of_a_split_or_of_a_part(self) -> None:
        _, scorer, w = self.scorer()
        facts = scorer.facts()
        for prompt in (w, facts.template):
            whole = self.evaluated(scorer, Evaluation("val", prompt, scores=True))
            assert whole.images == facts.images["val"]
            assert whole.scores is not None
            assert whole.accuracy == np.mean(whole.scores.argmax(axis=1) == facts.val_labels)
            part = self.evaluated(scorer, Evaluation("val", prompt, part=(1, 3), scores=True))
            assert part.scores is not None
            np.testing.assert_allclose(part.scores, whole.scores[1:3], atol=1e-4)

    def test_what_is_deployed_is_the_prompt_at_the_parameters(self) -> None:
        config, scorer, w = self.scorer()
        found = scorer.answer(new_work(Encoding(w), Priority.EVALUATION))
        assert isinstance(found, EncodingResult)
        expected = make_space(config.prompt, scorer.facts().shape, config.seed).prompt(w).context
        if expected is not None:
            np.testing.assert_array_equal(found.prompt.context, expected)
        of_prompt = self.evaluated(scorer, Evaluation("val", found.prompt))
        assert abs(of_prompt.loss - self.evaluated(scorer, Evaluation("val", w)).loss) < 1e-4

    @staticmethod
    def common(w: Float64) -> dict[str, Any]:
        """Fields common to all the asks."""
        return {"index": 0, "step": 1, "version": 0, "w": w, "batch": 1}

    @staticmethod
    def result(scorer: ScorerLike, ask: Ask) -> AskResult:
        """A scorer's answer to one ask."""
        found = scorer.answer(new_work(Pass((ask,)), Priority.QUERY))
        assert isinstance(found, tuple)
        return found[0]

    @staticmethod
    def evaluated(scorer: ScorerLike, evaluation: Evaluation) -> EvaluationResult:
        """A scorer's answer to an evaluation."""
        found = scorer.answer(new_work(evaluation, Priority.EVALUATION))
        assert isinstance(found, EvaluationResult)
        return found

    @staticmethod
    def labels(config: Config, scorer: ScorerLike, ask: Ask) -> Int64:
        """Classes of the images an ask covers, from the facts."""
        labels = scorer.facts().labels
        return labels[asked_images(ask, len(labels), config.task.batch_size, config.seed)]

    @staticmethod
    def cross_entropies(result: AskResult, columns: Int64) -> Float64:
        """Mean over the images, given the column of each image's own class."""
        assert result.scores is not None
        exact = result.scores.astype(np.float64)
        means: Float64 = (logsumexp(exact, axis=2) - exact[:, np.arange(len(columns)), columns]).mean(axis=1)
        return means
