"""Class scores of the scorer against plain forward passes, on the small CLIP that the project ships."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from tests.support.configs import zip_config
from tests.support.plain_clip import plain_logits
from tests.support.scoring import (
    answer_slices,
    chosen_with,
    cross_entropies,
    encode,
    evaluate,
    gradient_at,
    labels_of,
    pair_at,
    query_at,
    score,
    scores_of,
    template_query,
    value_of,
    wanting,
)
from zip_ray.clip.image_features import split_features
from zip_ray.clip.loading import load_clip
from zip_ray.config.tree import Config
from zip_ray.pool.asking import accuracy_on_test
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.split_planner import Partition
from zip_ray.pool.splitting import combine, slices
from zip_ray.prompts import PromptSpace, TextSpace, make_space
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import (
    Crops,
    CropsResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    FactsRequest,
    Features,
    FeaturesResult,
    Pass,
    Priority,
    new_work,
)
from zip_ray.protocol.mini_batches import asked_images, chunks
from zip_ray.protocol.perturbations import points
from zip_ray.protocol.readout import Readout, apply
from zip_ray.scorer.scorer import Scorer, build_scorer
from zip_ray.tasks import load_task

TEMPLATE = "a blurred drawing of the digit {} on paper."
SHORT = "a photo of one {}."
NAMES = list("0123456789")


def make_config(**sections: dict) -> Config:
    task = {"shots": 2, "batch_size": 7, **sections.pop("task", {})}
    fixed = {"cluster": {"pool": "in-process"}, "execution": {"cache": False}, "task": task}
    return zip_config({**fixed, **sections}, "test")


@pytest.fixture(scope="module")
def built() -> tuple[Config, Scorer, TextSpace]:
    """20 training images in mini-batches of 7, chunks of 6 or 7."""
    config = make_config()
    scorer = build_scorer(config)
    space = make_space(config.prompt, scorer.facts().shape, config.seed)
    assert isinstance(space, TextSpace)
    return config, scorer, space


def test_image_features_give_the_scores(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, _ = built
    found = [value_of(scorer, Features("test", part), FeaturesResult) for part in ((0, 30), (30, 50))]
    features = np.concatenate([one.features for one in found])
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    images = load_task(config.task, config.seed).test.subset(np.arange(50))
    np.testing.assert_array_equal(np.concatenate([one.labels for one in found]), images.labels)
    np.testing.assert_allclose(features, split_features(load_clip(config.model, "cpu"), images).numpy(), atol=1e-6)


def space_at(config: Config, scorer: Scorer, start: str) -> PromptSpace:
    """The prompt space for a start, built as the driver builds it."""
    return make_space(config.prompt, value_of(scorer, FactsRequest(start), Facts).shape, config.seed)


@pytest.mark.parametrize("chunk", [None, 2])
def test_scores_are_those_of_the_plain_forward_pass(built: tuple[Config, Scorer, TextSpace], chunk: int | None) -> None:
    config, scorer, space = built
    task = load_task(config.task, config.seed)
    ask = wanting(replace(pair_at(space.initial(), batch=2, scale=0.5), chunk=chunk))
    (result,) = score(scorer, ask)
    chosen = asked_images(ask, len(task.train), 7, config.seed)
    images = [task.train.image(int(i)) for i in chosen]
    for found, w in zip(scores_of(result), points(ask), strict=True):
        np.testing.assert_allclose(found, plain_logits(config, space.context(w), images, NAMES), atol=1e-3)
    (alone,) = score(scorer, replace(ask, scores=None))
    assert alone.scores is None
    assert (alone.losses, alone.accuracy) == (result.losses, result.accuracy)
    np.testing.assert_array_equal(scorer.facts().labels, task.train.labels)
    np.testing.assert_array_equal(scorer.facts().val_labels, task.val.labels)


@pytest.mark.parametrize("kind", ["pair", "query", "gradient", "template"])
def test_losses_and_accuracy_are_those_of_the_scores(built: tuple[Config, Scorer, TextSpace], kind: str) -> None:
    config, scorer, space = built
    w = space.initial()
    ask = {
        "pair": pair_at(w, scale=0.5),
        "query": query_at(w),
        "gradient": gradient_at(w),
        "template": template_query(TEMPLATE),
    }[kind]
    (result,) = score(scorer, wanting(ask))
    labels = labels_of(config, scorer, ask)
    scores = scores_of(result)
    assert scores.shape == (ask.queries, 7, 10)
    np.testing.assert_allclose(cross_entropies(scores, labels), result.losses, rtol=1e-12)
    assert (scores.argmax(axis=2) == labels).mean() == pytest.approx(result.accuracy)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_chosen_classes_keep_the_cross_entropy(built: tuple[Config, Scorer, TextSpace], k: int) -> None:
    config, scorer, space = built
    ask = pair_at(space.initial(), scale=0.5)
    labels = labels_of(config, scorer, ask)
    chosen = chosen_with(labels, k)
    all_classes, result = score(scorer, wanting(ask), wanting(ask, chosen))
    scores, whole = scores_of(result), scores_of(all_classes)
    assert scores.shape == (2, 7, k + 1)
    np.testing.assert_array_equal(scores[..., :k], whole[:, np.arange(7)[:, None], chosen])
    own = (chosen == labels[:, None]).argmax(axis=1)
    np.testing.assert_allclose(cross_entropies(scores, own), result.losses, rtol=1e-5)


def test_all_classes_chosen_leave_nothing_to_pool(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, space = built
    ask = query_at(space.initial())
    with pytest.raises(ValueError, match="10 chosen classes of 10: None asks for all"):
        score(scorer, wanting(ask, chosen_with(labels_of(config, scorer, ask), 10)))


@pytest.mark.parametrize("over", ["classes", "images"])
@pytest.mark.parametrize(("sides", "shards"), [(1, 1), (2, 1), (1, 3), (2, 4)])
def test_slices_give_the_scores_of_whole_passes(
    built: tuple[Config, Scorer, TextSpace], sides: Literal[1, 2], shards: int, over: Literal["classes", "images"]
) -> None:
    config, scorer, space = built
    w = space.initial()
    pairs = [pair_at(w, index, batch=1 + index, scale=0.5) for index in range(3)]
    chosen = chosen_with(labels_of(config, scorer, pairs[1]), 4)
    chunk = replace(pairs[2], chunk=0)  # of 6 images, not 7
    for asks in (
        (wanting(pairs[0]), wanting(pairs[1], chosen), pairs[2], wanting(chunk)),
        (wanting(query_at(w, chunk=1)), template_query(TEMPLATE), template_query(TEMPLATE, chunk=0)),
    ):
        parts = slices(Pass(asks), Partition(sides, shards, over))
        combined = combine(parts, answer_slices(scorer, parts), "cross-entropy")
        for ask, found, whole in zip(asks, combined, score(scorer, *asks), strict=True):
            assert found.losses == pytest.approx(whole.losses, rel=1e-6)
            assert found.accuracy == pytest.approx(whole.accuracy)
            assert (found.scores is None) == (ask.scores is None)
            if ask.scores is not None:
                np.testing.assert_allclose(scores_of(found), scores_of(whole), atol=1e-4)


def test_chunks_score_all_training_images_as_at_test_time(built: tuple[Config, Scorer, TextSpace]) -> None:
    _, scorer, space = built
    w = space.initial()
    asks = [wanting(query_at(w, index, chunk=index)) for index in range(chunks(20, 7))]
    found = np.concatenate([scores_of(result)[0] for result in score(scorer, *asks)])
    whole = value_of(scorer, Evaluation("train", w, scores=True), EvaluationResult)
    np.testing.assert_allclose(found, whole.scores, atol=1e-4)
    with pytest.raises(ValueError, match="chunk 3 of 3"):
        score(scorer, query_at(w, chunk=3))


@pytest.mark.parametrize("views", [2, "fresh"])
def test_chunks_are_of_images_that_are_not_cropped(built: tuple[Config, Scorer, TextSpace], views: int | str) -> None:
    _, plain, space = built
    scorer = build_scorer(make_config(task={"views": views}))
    chunk = wanting(query_at(space.initial(), chunk=1))
    np.testing.assert_allclose(*(scores_of(score(one, chunk)[0]) for one in (scorer, plain)), atol=1e-4)
    cropped = wanting(query_at(space.initial(), batch=2))
    if views == "fresh":
        crops = value_of(scorer, Crops(2), CropsResult)
        cropped = replace(cropped, features=crops.features)
        text = encode(scorer, space.initial()).text_features
        clip = scorer.facts().clip
        assert clip is not None
        expected = clip.logit_scale * crops.features @ text.T
        np.testing.assert_allclose(scores_of(score(scorer, cropped)[0])[0], expected, atol=1e-3)
    difference = scores_of(score(scorer, cropped)[0]) - scores_of(
        score(plain, wanting(query_at(space.initial(), batch=2)))[0]
    )
    assert np.abs(difference).max() > 0.1


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_template_is_asked_about_as_it_is_read(built: tuple[Config, Scorer, TextSpace], chunk: int | None) -> None:
    config, scorer, _ = built
    task = load_task(config.task, config.seed)
    ask = template_query(TEMPLATE, batch=3, chunk=chunk)
    images = [task.train.image(int(i)) for i in asked_images(ask, 20, 7, config.seed)]
    (result,) = score(scorer, ask)
    np.testing.assert_allclose(scores_of(result)[0], plain_logits(config, TEMPLATE, images, NAMES), atol=1e-3)


def test_a_start_is_that_of_a_scorer_configured_with_it(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, _ = built
    there = build_scorer(make_config(prompt={"init": "template"}, task={"template": TEMPLATE}))
    facts, expected = value_of(scorer, FactsRequest(TEMPLATE), Facts), there.facts()
    np.testing.assert_array_equal(facts.shape.initial_context, expected.shape.initial_context)
    assert facts.suffix == expected.suffix == " on paper."
    assert scorer.facts().suffix == "."
    w = space_at(config, scorer, TEMPLATE).initial()
    ask = wanting(pair_at(w, batch=2, scale=0.5))
    (found,), (other,) = score(scorer, replace(ask, start=TEMPLATE)), score(there, ask)
    np.testing.assert_array_equal(scores_of(found), scores_of(other))
    assert found.losses == other.losses
    tested = value_of(scorer, Evaluation("val", w, start=TEMPLATE), EvaluationResult)
    assert tested == evaluate(there, "val", w)
    encoded = value_of(scorer, Encoding(w, TEMPLATE), EncodingResult)
    np.testing.assert_array_equal(encoded.text_features, encode(there, w).text_features)
    assert encoded.prompt.suffix == " on paper."
    assert evaluate(scorer, "val", encoded.prompt) == tested
    slope, expected_slope = (
        score(one, ask)[0].gradient
        for one, ask in ((scorer, replace(gradient_at(w), start=TEMPLATE)), (there, gradient_at(w)))
    )
    np.testing.assert_array_equal(slope, expected_slope)


def test_asks_of_several_starts_and_templates_share_a_pass(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, space = built
    asks = [
        wanting(query_at(space.initial(), 0)),
        template_query(TEMPLATE),
        wanting(replace(query_at(space_at(config, scorer, SHORT).initial(), 1), start=SHORT)),
        template_query(SHORT),
        wanting(replace(query_at(space.initial() + 0.1, 2), chunk=0)),
        template_query(TEMPLATE, chunk=2),
    ]
    for ask, result in zip(asks, score(scorer, *asks), strict=True):
        np.testing.assert_allclose(scores_of(result), scores_of(score(scorer, ask)[0]), atol=1e-4)


def test_evaluations_return_scores_and_apply_a_readout(built: tuple[Config, Scorer, TextSpace]) -> None:
    _, scorer, space = built
    w, labels = space.initial(), scorer.facts().val_labels
    elsewhere = encode(scorer, w + 0.3).prompt
    given = (w, TEMPLATE, elsewhere)
    plain = [value_of(scorer, Evaluation("val", one, scores=True), EvaluationResult) for one in given]
    scores = [one.scores for one in plain if one.scores is not None]
    assert evaluate(scorer, "val", w) == replace(plain[0], scores=None)
    assert cross_entropies(scores[0][None], labels)[0] == pytest.approx(plain[0].loss, rel=1e-12)
    rng = np.random.default_rng(7)
    weights, bias = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((30, 10), (10,)))
    readout = Readout((TEMPLATE, elsewhere), weights, bias, 5.0)
    found = value_of(scorer, Evaluation("val", w, readout=readout, scores=True), EvaluationResult)
    expected = apply(readout, scores)
    np.testing.assert_array_equal(found.scores, expected.astype(np.float32))
    assert found.loss == pytest.approx(cross_entropies(expected[None], labels)[0], rel=1e-12)
    assert found.accuracy == (expected.argmax(axis=1) == labels).mean()
    assert found.loss != pytest.approx(plain[0].loss)
    part = value_of(scorer, Evaluation("val", w, (3, 9), readout=readout, scores=True), EvaluationResult)
    np.testing.assert_allclose(part.scores, expected[3:9], atol=1e-3)


def test_a_readout_folds_into_class_features(built: tuple[Config, Scorer, TextSpace]) -> None:
    """The map on the scores, and the head on the image features."""
    config, scorer, space = built
    w, rng = space_at(config, scorer, SHORT).initial(), np.random.default_rng(8)
    weights, bias = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((30, 10), (10,)))
    readout = Readout((TEMPLATE, encode(scorer, space.initial() + 0.3).prompt), weights, bias, 5.0)
    encoded = value_of(scorer, Encoding(w, SHORT, readout), EncodingResult)
    assert encoded.head is not None
    assert encode(scorer, space.initial()).head is None
    evaluation = Evaluation("test", w, start=SHORT, readout=readout, scores=True)
    found = value_of(scorer, evaluation, EvaluationResult)
    task = load_task(config.task, config.seed)
    images = split_features(load_clip(config.model, "cpu"), task.test).numpy()
    np.testing.assert_allclose(images @ encoded.head.T + bias, found.scores, atol=1e-3)
    images_count, pool = scorer.facts().images["test"], InProcessPool(lambda: scorer)
    assert accuracy_on_test(pool, w, images_count, start=SHORT, readout=readout) == found.accuracy
    assert accuracy_on_test(pool, w, images_count, start=SHORT) == pytest.approx(
        value_of(scorer, Evaluation("test", w, start=SHORT), EvaluationResult).accuracy
    )


def test_a_readout_of_several_prompts_does_not_fold_where_images_are_changed() -> None:
    config = make_config(prompt={"space": "frame"})
    scorer = build_scorer(config)
    w = make_space(config.prompt, scorer.facts().shape, config.seed).initial()
    weights, bias = np.full((20, 10), 0.1, np.float32), np.zeros(10, np.float32)
    with pytest.raises(ValueError, match="under a visual prompt"):
        scorer.answer(new_work(Encoding(w, readout=Readout((TEMPLATE,), weights, bias, 1.0)), Priority.QUERY))
    own = Readout((), weights[:10], bias, 1.0)
    assert value_of(scorer, Encoding(w, readout=own), EncodingResult).head is not None
