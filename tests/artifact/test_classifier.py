"""A tuned prompt with its readout, on its own classes and on others."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.painted import COLOURS, paint
from tests.support.scoring import value_of
from zip_ray.artifact.classifier import classify, evaluate
from zip_ray.artifact.kept_readout import ReadoutCard
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, PromptCard, TunedPrompt
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Encoding, EncodingResult, Evaluation, EvaluationResult
from zip_ray.protocol.readout import Readout
from zip_ray.scorer.scorer import Scorer, build_scorer


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test images alone, two of each colour."""
    root = tmp_path_factory.mktemp("images")
    for colour in COLOURS:
        for number in range(2):
            paint(root / "test" / colour / f"{number}.png", colour)
    return root


def make_config(root: Path) -> Config:
    return validate({"task": {"name": "folder", "root": str(root)}, "cluster": {"pool": "in-process"}}, "test")


@pytest.fixture(scope="module")
def made(images: Path) -> tuple[TunedPrompt, Scorer, EvaluationResult]:
    """A prompt whose readout turns the classes by one; and what its scorer says of it."""
    config = make_config(images)
    scorer = build_scorer(config)
    facts = scorer.facts()
    w = make_space(config.prompt, facts.shape, config.seed).initial()
    classes = len(facts.classnames)
    turn = (np.roll(np.eye(classes), 1, axis=1) - np.eye(classes)).astype(np.float32)
    weights = np.concatenate([turn, 0.1 * turn])
    readout = Readout((facts.template,), weights, np.linspace(0, 0.5, classes, dtype=np.float32), 1.0)
    encoded = value_of(scorer, Encoding(w, readout=readout), EncodingResult)
    card = PromptCard(
        task="folder",
        classnames=facts.classnames,
        template=facts.template,
        suffix=facts.suffix,
        model=facts.clip.model,
        pretrained=facts.clip.pretrained,
        weights_digest=facts.weights_digest,
        preprocess=facts.clip.preprocess,
        logit_scale=facts.clip.logit_scale,
        method="zip",
        seed=1,
        prompt={},
        deployed="last",
        step=0,
        queries=0,
        seconds=0.0,
        accuracies={},
        readout=ReadoutCard.of(readout, "auto", 6, 2),
    )
    found = value_of(scorer, Evaluation("test", w, readout=readout, scores=True), EvaluationResult)
    prompt = TunedPrompt(card, encoded.prompt, encoded.text_features, w, {}, readout, encoded.head)
    return prompt, scorer, found


def test_own_classes_are_judged_with_and_without_it(
    made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path
) -> None:
    prompt, scorer, found = made
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accuracies = evaluate(prompt, make_config(images).task, 1)
    alone = value_of(scorer, Evaluation("test", prompt.prompt), EvaluationResult)
    assert list(accuracies) == [PLAIN_TEMPLATE, TUNED, READ_OUT]
    assert accuracies[TUNED] == pytest.approx(alone.accuracy)
    assert accuracies[READ_OUT] == pytest.approx(found.accuracy)
    assert accuracies[READ_OUT] != accuracies[TUNED]
    assert READ_OUT not in evaluate(replace(prompt, readout=None, head=None), make_config(images).task, 1)


def test_files_are_classified_by_it(made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path) -> None:
    prompt, _, found = made
    assert found.scores is not None
    predictions = list(classify(prompt, images / "test"))
    odds = np.exp(found.scores - found.scores.max(axis=1, keepdims=True))
    names = [prompt.card.classnames[k] for k in found.scores.argmax(axis=1)]
    assert [one.classname for one in predictions] == names
    expected = (odds / odds.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose([one.probability for one in predictions], expected, atol=1e-4)
    turned = tuple(reversed(prompt.card.classnames))
    assert [one.classname for one in classify(prompt, images / "test", turned)] == names


def test_other_classes_get_the_prompt_alone(
    made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path, tmp_path: Path
) -> None:
    prompt, _, _ = made
    for colour in list(COLOURS)[:2]:
        paint(tmp_path / "test" / colour / "0.png", colour)
    with pytest.warns(UserWarning, match="the prompt alone is used"):
        accuracies = evaluate(prompt, make_config(tmp_path).task, 1)
    assert list(accuracies) == [PLAIN_TEMPLATE, TUNED]
    names = ("red", "blue thing")
    with pytest.warns(UserWarning, match="the prompt alone is used"):
        found = [one.classname for one in classify(prompt, images / "test", names)]
    assert found == [one.classname for one in classify(replace(prompt, readout=None), images / "test", names)]
