"""Class scores under visual prompts: whole and in slices, on mini-batches and on chunks."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.configs import zip_config
from tests.support.plain_clip import plain_logits
from tests.support.scoring import (
    answer_slices,
    chosen_with,
    cross_entropies,
    labels_of,
    pair_at,
    query_at,
    score,
    scores_of,
    template_query,
    value_of,
    wanting,
)
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.split_planner import Partition
from zip_ray.pool.splitting import combine, slices
from zip_ray.prompts import make_space
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Evaluation, EvaluationResult, FactsRequest, Pass
from zip_ray.protocol.mini_batches import asked_images
from zip_ray.scorer.scorer import Scorer, build_scorer
from zip_ray.tasks import load_task

TEMPLATE = "a blurred drawing of the digit {} on paper."
NAMES = list("0123456789")


@pytest.fixture(scope="module", params=["frame", "decoder", "tokens"])
def visual(request: pytest.FixtureRequest) -> tuple[Config, Scorer, np.ndarray]:
    """10 training images in mini-batches of 7, chunks of 5."""
    config = zip_config(
        {
            "cluster": {"pool": "in-process"},
            "execution": {"cache": False},
            "task": {"shots": 1, "batch_size": 7},
            "prompt": {"space": request.param},
        },
        "test",
    )
    scorer = build_scorer(config)
    return config, scorer, make_space(config.prompt, scorer.facts().shape, config.seed).initial()


def test_visual_prompts_have_scores_too(visual: tuple[Config, Scorer, np.ndarray]) -> None:
    config, scorer, w = visual
    pairs = [wanting(pair_at(w, index, batch=1 + index, scale=0.5)) for index in range(2)]
    labels = labels_of(config, scorer, pairs[1])
    asks = (pairs[0], wanting(pairs[1], chosen_with(labels, 4)), replace(pairs[0], chunk=1))
    whole = score(scorer, *asks)
    for ask, result in zip(asks[::2], whole[::2], strict=True):
        found = cross_entropies(scores_of(result), labels_of(config, scorer, ask))
        np.testing.assert_allclose(found, result.losses, rtol=1e-12)
    parts = slices(Pass(asks), Partition(2, 3, "images"))
    for found, result in zip(combine(parts, answer_slices(scorer, parts), "cross-entropy"), whole, strict=True):
        np.testing.assert_allclose(scores_of(found), scores_of(result), atol=1e-3)


def test_chunks_are_seen_by_a_visual_prompt_as_deployed(visual: tuple[Config, Scorer, np.ndarray]) -> None:
    _, scorer, w = visual
    for prompt, make in ((w, query_at), (TEMPLATE, template_query)):
        asks = [wanting(make(prompt, chunk=chunk)) for chunk in range(2)]  # type: ignore[operator]
        found = np.concatenate([scores_of(result)[0] for result in score(scorer, *asks)])
        whole = value_of(scorer, Evaluation("train", prompt, scores=True), EvaluationResult)
        np.testing.assert_allclose(found, whole.scores, atol=1e-3)


def test_a_template_is_asked_about_on_images_without_the_visual_prompt(
    visual: tuple[Config, Scorer, np.ndarray],
) -> None:
    config, scorer, _ = visual
    task = load_task(config.task, config.seed)
    ask = template_query(TEMPLATE, batch=2)
    images = [task.train.image(int(i)) for i in asked_images(ask, 10, 7, config.seed)]
    (result,) = score(scorer, ask)
    np.testing.assert_allclose(scores_of(result)[0], plain_logits(config, TEMPLATE, images, NAMES), atol=1e-3)
    parts = slices(Pass((ask,)), Partition(2, 3, "images"))
    (again,) = combine(parts, answer_slices(scorer, parts), "cross-entropy")
    np.testing.assert_allclose(scores_of(again), scores_of(result), atol=1e-3)


def test_a_space_without_a_context_starts_nowhere(visual: tuple[Config, Scorer, np.ndarray]) -> None:
    config, scorer, w = visual
    if config.prompt.space == "tokens":  # type: ignore[attr-defined]
        assert value_of(scorer, FactsRequest(TEMPLATE), Facts).suffix == " on paper."
        return
    with pytest.raises(InputError, match=f"start: '{TEMPLATE}': a prompt space without a context"):
        score(scorer, replace(query_at(w), start=TEMPLATE))
