"""A tuned prompt with its readout, on its own classes and on others."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.support.painted import COLOURS, paint
from tests.support.scoring import value_of
from zip_ray.artifact.class_weights import write_class_weights
from zip_ray.artifact.evaluation import score_test
from zip_ray.artifact.kept_readout import ReadoutCard
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, PromptCard, TunedPrompt
from zip_ray.clip.image_features import split_features
from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.protocol.facts import VisualPrompt
from zip_ray.protocol.messages import Encoding, EncodingResult, Evaluation, EvaluationResult
from zip_ray.protocol.readout import Readout
from zip_ray.runs.pooled_test import score_on_pool
from zip_ray.scorer.scorer import Scorer, build_scorer
from zip_ray.tasks import load_task


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set alone, two images of each colour."""
    root = tmp_path_factory.mktemp("images")
    for colour in COLOURS:
        for number in range(2):
            paint(root / "test" / colour / f"{number}.png", colour)
    return root


def make_config(root: Path) -> Config:
    return validate({"task": {"name": "folder", "root": str(root)}, "cluster": {"pool": "in-process"}}, "test")


@pytest.fixture(scope="module")
def made(images: Path) -> tuple[TunedPrompt, Scorer, EvaluationResult]:
    """A prompt whose readout shifts the classes by one, its scorer, and the scorer's result for it."""
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
        accuracies = score_test(prompt, make_config(images).task, 1).accuracies
    alone = value_of(scorer, Evaluation("test", prompt.prompt), EvaluationResult)
    assert list(accuracies) == [PLAIN_TEMPLATE, TUNED, READ_OUT]
    assert accuracies[TUNED] == pytest.approx(alone.accuracy)
    assert accuracies[READ_OUT] == pytest.approx(found.accuracy)
    assert accuracies[READ_OUT] != accuracies[TUNED]
    assert READ_OUT not in score_test(replace(prompt, readout=None, head=None), make_config(images).task, 1).accuracies


def test_on_a_pool_the_scores_are_the_same(made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path) -> None:
    """Even if the task orders the classes differently from the readout."""
    prompt, scorer, found = made
    expected = score_test(prompt, make_config(images).task, 1).scores
    classes = len(prompt.card.classnames)
    turned = np.roll(np.arange(classes), 2)
    assert prompt.readout is not None
    rows = np.concatenate([block * classes + turned for block in range(2)])
    other = replace(prompt.readout, weights=prompt.readout.weights[rows][:, turned], bias=prompt.readout.bias[turned])
    names = tuple(prompt.card.classnames[k] for k in turned)
    for one in (prompt, replace(prompt, readout=other, card=prompt.card.model_copy(update={"classnames": names}))):
        scores = score_on_pool(one, InProcessPool(lambda: scorer))
        assert list(scores) == list(expected)
        for name, of_prompt in expected.items():
            np.testing.assert_allclose(scores[name], of_prompt, atol=1e-4)
    np.testing.assert_array_equal(score_on_pool(prompt, InProcessPool(lambda: scorer))[READ_OUT], found.scores)


def test_a_pool_of_another_model_is_refused(made: tuple[TunedPrompt, Scorer, EvaluationResult]) -> None:
    prompt, scorer, _ = made
    with pytest.raises(InputError, match="the actors' weights differ from those that the prompt was tuned on"):
        score_on_pool(
            replace(prompt, card=prompt.card.model_copy(update={"weights_digest": "0"})), InProcessPool(lambda: scorer)
        )


def test_files_are_classified_by_it(made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path) -> None:
    prompt, _, found = made
    assert found.scores is not None
    predictions = prompt.classifier()(images / "test")
    odds = np.exp(found.scores - found.scores.max(axis=1, keepdims=True))
    names = [prompt.card.classnames[k] for k in found.scores.argmax(axis=1)]
    assert [one.classname for one in predictions] == names
    expected = (odds / odds.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose([one.probability for one in predictions], expected, atol=1e-4)
    turned = tuple(reversed(prompt.card.classnames))
    assert [one.classname for one in prompt.classifier(turned)(images / "test")] == names


def test_other_classes_get_the_prompt_alone(
    made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path, tmp_path: Path
) -> None:
    prompt, _, _ = made
    for colour in list(COLOURS)[:2]:
        paint(tmp_path / "test" / colour / "0.png", colour)
    with pytest.warns(UserWarning, match="only the prompt is used"):
        accuracies = score_test(prompt, make_config(tmp_path).task, 1).accuracies
    assert list(accuracies) == [PLAIN_TEMPLATE, TUNED]
    names = ("red", "blue thing")
    with pytest.warns(UserWarning, match="only the prompt is used"):
        found = [one.classname for one in prompt.classifier(names)(images / "test")]
    assert found == [one.classname for one in replace(prompt, readout=None).classifier(names)(images / "test")]


def test_a_prompt_of_ones_own_scorer_names_the_command_that_tests_it(
    made: tuple[TunedPrompt, Scorer, EvaluationResult],
) -> None:
    prompt, _, _ = made
    own = replace(prompt, card=prompt.card.model_copy(update={"scorer": "over_http:HttpScorer"}))
    with pytest.raises(
        InputError, match=r"'over_http:HttpScorer'.*: test it with `zip-ray evaluate --cluster.pool ray`$"
    ):
        own.classifier()


def test_images_come_as_files_folders_or_open(
    made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From any working directory."""
    classifier = made[0].classifier()
    monkeypatch.chdir(tmp_path)
    of_folder = classifier(images / "test")
    files = [one.path for one in of_folder if one.path is not None]
    assert len(files) == len(of_folder)
    with Image.open(files[0]) as image:
        assert classifier(image)[0].probabilities == pytest.approx(of_folder[0].probabilities, abs=1e-5)
        mixed = classifier([image, str(files[1])])
    assert [one.path for one in mixed] == [None, files[1]]
    assert [one.classname for one in mixed] == [one.classname for one in of_folder[:2]]
    for one in of_folder:
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.probability == max(one.probabilities.values()) == one.probabilities[one.classname]


@pytest.mark.parametrize(
    ("classnames", "said"),
    [("cat", "'cat' is one string: give a list of class names"), ([], "none are given: give at")],
)
def test_classes_that_are_no_list_are_refused(
    made: tuple[TunedPrompt, Scorer, EvaluationResult], classnames: Any, said: str
) -> None:
    with pytest.raises(InputError, match=f"^classnames: {said}"):
        made[0].classifier(classnames)


def test_text_features_take_gradients_and_leave_the_model_as_it_is(
    made: tuple[TunedPrompt, Scorer, EvaluationResult],
) -> None:
    clip = load_clip(ModelConfig(), "cpu")
    clip.model.train()
    features = made[0].text_features(clip.model, clip.tokenizer)
    assert clip.model.training
    weight = torch.ones(features.shape[1], requires_grad=True)
    (features @ weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("has_readout", [True, False])
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_exported_weights_are_the_classifier(
    made: tuple[TunedPrompt, Scorer, EvaluationResult], images: Path, tmp_path: Path, has_readout: bool, suffix: str
) -> None:
    prompt = made[0] if has_readout else replace(made[0], readout=None, head=None)
    file = tmp_path / f"classes{suffix}"
    write_class_weights(prompt, file)
    if suffix == ".npz":
        kept = np.load(file, allow_pickle=False)
        names = kept["classnames"].tolist()
    else:
        kept = load_file(file)
        with safe_open(file, framework="numpy") as opened:
            names = json.loads(opened.metadata()["classnames"])
    assert names == list(prompt.card.classnames)
    clip, task = load_clip(ModelConfig(), "cpu"), load_task(make_config(images).task, 1)
    scores = split_features(clip, task.test).numpy() @ kept["weights"].T + kept["bias"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    found = [list(one.probabilities.values()) for one in prompt.classifier()(images / "test")]
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), found, atol=1e-4)


def test_what_cannot_be_exported_is_refused(made: tuple[TunedPrompt, Scorer, EvaluationResult], tmp_path: Path) -> None:
    prompt = made[0]
    with pytest.raises(InputError, match=r"give a name that ends in .safetensors or .npz"):
        write_class_weights(prompt, tmp_path / "weights.pt")
    visual = replace(prompt, prompt=replace(prompt.prompt, visual=VisualPrompt("frame", {})))
    with pytest.raises(InputError, match=r"^the prompt changes images"):
        write_class_weights(visual, tmp_path / "weights.npz")
    with pytest.raises(InputError, match=r"^the prompt has no class features"):
        write_class_weights(replace(prompt, features=prompt.features[:, :0]), tmp_path / "weights.npz")
