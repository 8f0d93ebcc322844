"""The scorer against plain forward passes, on the small CLIP that the project ships."""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tests.support.configs import zip_config
from tests.support.paths import SHARED
from tests.support.plain_clip import plain_logits
from tests.support.scoring import answer_slices, encode, evaluate, gradient_at, pair_at, query_at, score, value_of
from zip_ray.clip.class_texts import Texts
from zip_ray.clip.image_features import random_crop, train_features
from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.split_planner import Partition
from zip_ray.pool.splitting import combine, slices
from zip_ray.prompts import TextSpace, make_space
from zip_ray.protocol.facts import SHARED_PREFIX, Facts, Prompt
from zip_ray.protocol.messages import Crops, CropsResult, FactsRequest, Pair, Pass, Perturbation
from zip_ray.protocol.mini_batches import mini_batch
from zip_ray.protocol.perturbations import perturbation, points
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.scorer.scorer import Scorer, build_scorer
from zip_ray.tasks import Task, load_task
from zip_ray.tasks.coop.data_sets import SETS
from zip_ray.tasks.images import ArrayImages


def make_config(**sections: dict) -> Config:
    return zip_config({"cluster": {"pool": "in-process"}, "task": {"shots": 4}, **sections}, "test")


def text_space(config: Config, scorer: Scorer) -> TextSpace:
    space = make_space(config.prompt, scorer.facts().shape, config.seed)
    assert isinstance(space, TextSpace)
    return space


@pytest.fixture(scope="module", params=["random", "template"])
def built(request: pytest.FixtureRequest) -> tuple[Config, Scorer, TextSpace]:
    task = {"shots": 4, "template": "a photo of the digit {}."}
    config = make_config(prompt={"init": request.param}, task=task)
    scorer = build_scorer(config)
    return config, scorer, text_space(config, scorer)


def plain_loss(config: Config, context: np.ndarray, images: list[Image.Image], labels: np.ndarray) -> float:
    """Cross-entropy by the library's own forward pass."""
    logits = torch.from_numpy(plain_logits(config, context, images, list("0123456789")))
    return float(functional.cross_entropy(logits.double(), torch.from_numpy(labels)))


def test_losses_are_those_of_the_plain_forward_pass(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, space = built
    task = load_task(config.task, config.seed)
    rng = np.random.default_rng(5)
    w = space.initial() + 0.1 * rng.standard_normal(space.dimension)
    key = Perturbation("segmented-uniform", 1, 3, 2)
    (result,) = score(scorer, Pair(index=12, step=3, version=2, w=w, scale=0.5, perturbation=key, batch=3))
    image = mini_batch(len(task.train), 128, config.seed, 3)
    images, labels = [task.train.image(i) for i in image], task.train.labels[image]
    z = 0.5 * perturbation(key, space.dimension)
    for loss, point in zip(result.losses, (w + z, w - z), strict=True):
        assert loss == pytest.approx(plain_loss(config, space.context(point), images, labels), rel=1e-5)
    assert abs(result.losses[0] - result.losses[1]) > 1e-4


def test_pairs_that_share_a_pass_score_as_alone(built: tuple[Config, Scorer, TextSpace]) -> None:
    _, scorer, space = built
    pairs = [pair_at(space.initial(), index, batch=1 + index % 2) for index in range(5)]
    for pair, result in zip(pairs, score(scorer, *pairs), strict=True):
        (alone,) = score(scorer, pair)
        assert result.losses == pytest.approx(alone.losses, rel=1e-6)
        assert result.accuracy == alone.accuracy


def test_reduced_precision_is_judged() -> None:
    scorer = build_scorer(make_config(model={"precision": "bf16"}))
    assert re.fullmatch(r"bf16: \d+% of pairs keep the sign .*, noise [\d.e-]+ of it", scorer.facts().clip.precision)
    assert build_scorer(make_config()).facts().clip.precision == ""


def test_same_work_same_bits(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, space = built
    pair = pair_at(space.initial())
    assert score(scorer, pair) == score(scorer, pair) == score(build_scorer(config), pair)


def test_start_at_the_template_is_zero_shot_with_it() -> None:
    config = make_config(
        prompt={"init": "template", "intrinsic_dimension": 200}, task={"template": "a blurred {} in white on black."}
    )
    scorer = build_scorer(config)
    facts = scorer.facts()
    assert facts.suffix == " in white on black."
    soft = evaluate(scorer, "test", text_space(config, scorer).initial())
    words = evaluate(scorer, "test", facts.template)
    assert soft.accuracy == words.accuracy
    assert soft.loss == pytest.approx(words.loss, rel=1e-6)
    assert soft.images == 898


def test_every_template_of_the_papers_has_words_to_start_from() -> None:
    config, clip = make_config(prompt={"init": "template"}), load_clip(ModelConfig(), "cpu")
    images = ArrayImages(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.int64))
    for template in {spec.template for spec in SETS.values()}:
        task = Task("coop:set", ("dotted", "striped"), template, (template,), *[images] * 3)
        texts = Texts(clip, task, config)
        soft = texts.encode([Prompt(texts.initial_context)])[0]
        sentence = "a photo of a {} texture." if template == "{} texture." else template
        torch.testing.assert_close(soft, texts.sentences(sentence), atol=1e-5, rtol=0)


def test_encoding_is_what_evaluation_uses(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, space = built
    w = space.initial()
    encoding = encode(scorer, w)
    np.testing.assert_array_equal(encoding.prompt.context, space.context(w))
    clip, task = load_clip(config.model, "cpu"), load_task(config.task, config.seed)
    with torch.no_grad():
        pixels = torch.stack([clip.preprocess(task.val.image(i)) for i in range(len(task.val))])
        images = functional.normalize(clip.model.encode_image(pixels), dim=-1).numpy()
    right = (images @ encoding.text_features.T).argmax(1) == task.val.labels
    assert evaluate(scorer, "val", w).accuracy == pytest.approx(right.mean())


def test_facts(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, _ = built
    facts = scorer.facts()
    assert facts.images == {"train": 40, "val": 40, "test": 898}
    assert facts.classnames == tuple("0123456789")
    tokens = 8 if config.prompt.init == "random" else 5
    assert facts.shape.initial_context.shape == (tokens, 128)
    assert len(facts.weights_digest) == 64
    assert facts.clip.text_pass == SHARED_PREFIX


def test_the_facts_are_an_answer_too(built: tuple[Config, Scorer, TextSpace]) -> None:
    _, scorer, _ = built
    facts = value_of(scorer, FactsRequest(), Facts)
    assert (facts.weights_digest, facts.images) == (scorer.facts().weights_digest, scorer.facts().images)


def test_fresh_crops_are_scored_as_if_encoded_on_the_spot() -> None:
    config = make_config(task={"shots": 4, "batch_size": 12, "views": "fresh"})
    scorer = build_scorer(config)
    space = text_space(config, scorer)
    task, clip = load_task(config.task, config.seed), load_clip(config.model, "cpu")
    crop = random_crop(clip, config.task)
    seen = []
    for batch in (1, 2, 5):  # 40 images: three batches of 12 per epoch
        crops = value_of(scorer, Crops(batch), CropsResult)
        chosen = mini_batch(40, 12, config.seed, batch)
        pixels = [crop(task.train.image(i), generator(1, Stream.CROP, batch, place)) for place, i in enumerate(chosen)]
        with torch.no_grad():
            expected = torch.cat([clip.model.encode_image(x.unsqueeze(0), normalize=True) for x in pixels])
        np.testing.assert_allclose(crops.features, expected.numpy(), atol=1e-5)
        pair = pair_at(space.initial(), batch=batch, features=crops.features)
        z = 0.01 * perturbation(pair.perturbation, space.dimension)
        text = encode(scorer, pair.w + z).text_features
        logits = clip.logit_scale * expected.double() @ torch.from_numpy(text).double().T
        loss = functional.cross_entropy(logits, torch.from_numpy(task.train.labels[chosen]))
        assert score(scorer, pair)[0].losses[0] == pytest.approx(float(loss), rel=1e-6)
        seen.append(crops.features)
    assert np.abs(seen[0] - seen[1]).max() > 1e-2


def test_views_are_keyed_crops() -> None:
    config = make_config(task={"shots": 1, "views": 3})
    clip, task = load_clip(config.model, "cpu"), load_task(config.task, config.seed)
    views = train_features(clip, task.train, config.task, seed=1)
    assert views.shape[:2] == (3, 10)
    assert torch.equal(views, train_features(clip, task.train, config.task, seed=1))
    assert (views[0] - views[1]).abs().max() > 1e-3
    crop = random_crop(clip, config.task)(task.train.image(4), generator(1, Stream.VIEW, 2, 4))
    with torch.no_grad():
        expected = functional.normalize(clip.model.encode_image(crop.unsqueeze(0)), dim=-1)[0]
    np.testing.assert_allclose(views[1, 4].numpy(), expected.numpy(), atol=1e-5)


def test_a_loaded_model_has_image_features_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tuned prompt must be evaluated on the features it was tuned on."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_clip(ModelConfig(), "cpu")
    assert not torch.backends.cudnn.allow_tf32


def test_another_local_checkpoint_loads() -> None:
    if not (SHARED / "models").is_dir():
        pytest.skip("../shared/models is not here: it holds a second small CLIP")
    name = f"local-dir:{SHARED / 'models' / 'natural_tiny'}"
    root = SHARED / "data" / "cifar10"
    config = make_config(model={"name": name}, task={"name": "folder", "root": str(root)}, prompt={"init": "template"})
    result = evaluate(build_scorer(config), "test", "a photo of a {}.")
    assert result.images == 1000
    assert result.accuracy == pytest.approx(0.55, abs=0.01)  # stated in the model's README


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "local-dir:nowhere"}, r"model.name: 'local-dir:nowhere': no open_clip_config.json"),
        ({"name": "small_clip"}, "model.name: 'small_clip' is unknown to open_clip: give small-clip"),
        ({"name": "ViT-B-32"}, r"model.pretrained: none is given .* 'ViT-B-32'"),
        ({"name": "ViT-B-99", "pretrained": "openai"}, "model.name: 'ViT-B-99' is unknown to open_clip: give ViT-B-"),
        ({"name": "ViT-B-16", "pretrained": "openai"}, "another activation .* 'openai': give ViT-B-16-quickgelu"),
        ({"name": "ViT-B-32", "pretrained": "/no/such.pt"}, r"model.name: 'ViT-B-32' .* cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_had_is_named(model: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_clip(ModelConfig(**model), "cpu")


def test_a_checkpoint_file_loads(tmp_path: Path) -> None:
    """An architecture of open_clip by name, with weights from a file."""
    model = open_clip.create_model("RN50", pretrained=None)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    clip = load_clip(ModelConfig(name="RN50", pretrained=str(tmp_path / "weights.pt")), "cpu")
    for name, tensor in model.state_dict().items():
        assert torch.equal(clip.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(("sides", "shards"), [(2, 1), (1, 3), (2, 4)])
def test_slices_make_up_the_pass(built: tuple[Config, Scorer, TextSpace], sides: Literal[1, 2], shards: int) -> None:
    _, scorer, space = built
    pairs = Pass(tuple(pair_at(space.initial(), index, batch=1 + index, scale=0.3) for index in range(3)))
    parts = slices(pairs, Partition(sides, shards))
    combined = combine(parts, answer_slices(scorer, parts), "cross-entropy")
    for result, expected in zip(combined, score(scorer, *pairs.asks), strict=True):
        assert result.losses == pytest.approx(expected.losses, rel=1e-6)
        assert result.accuracy == expected.accuracy
        assert abs(expected.losses[0] - expected.losses[1]) > 1e-4


def test_a_query_scores_its_point(built: tuple[Config, Scorer, TextSpace]) -> None:
    _, scorer, space = built
    pair = pair_at(space.initial(), batch=2, scale=0.3)
    (result,) = score(scorer, pair)
    queries = Pass(tuple(query_at(w, index, batch=2) for index, w in enumerate(points(pair))))
    plus, minus = score(scorer, *queries.asks)
    assert (plus.loss, minus.loss) == pytest.approx(result.losses, rel=1e-6)
    assert (plus.accuracy + minus.accuracy) / 2 == result.accuracy
    parts = slices(queries, Partition(2, 3))
    assert len(parts) == 3, "a query has one side"
    combined = combine(parts, answer_slices(scorer, parts), "cross-entropy")
    for found, whole in zip(combined, (plus, minus), strict=True):
        assert found.loss == pytest.approx(whole.loss, rel=1e-6)
        assert found.accuracy == whole.accuracy


@pytest.mark.parametrize("loss", ["cross-entropy", "focal"])
def test_gradients_are_those_of_finite_differences(loss: str) -> None:
    config = make_config(prompt={"init": "template", "rank": 2}, optimizer={"loss": loss})
    scorer = build_scorer(config)
    space = text_space(config, scorer)
    w = space.initial() + 0.1 * np.random.default_rng(1).standard_normal(space.dimension)
    (found,) = score(scorer, gradient_at(w))
    (whole,) = score(scorer, query_at(w))
    assert found.gradient is not None
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    assert found.accuracy == whole.accuracy
    for direction in np.random.default_rng(2).standard_normal((3, space.dimension)):
        h = 1e-3
        plus, minus = score(scorer, *(query_at(w + sign * h * direction) for sign in (1, -1)))
        slope = float(found.gradient @ direction)
        assert (plus.loss - minus.loss) / (2 * h) == pytest.approx(slope, rel=0.01, abs=1e-3)
        assert abs(slope) > 0.02


def test_focal_loss_weighs_down_what_is_right_already() -> None:
    """(1 - p)^2 times -log p, whole and in shards; validation stays the cross-entropy."""
    config = make_config(optimizer={"loss": "focal", "method": "one-sided"})
    scorer = build_scorer(config)
    w = text_space(config, scorer).initial()
    chosen = mini_batch(40, 128, config.seed, 1)
    task, clip = load_task(config.task, config.seed), load_clip(config.model, "cpu")
    pixels = torch.stack([clip.preprocess(task.train.image(i)) for i in chosen])
    text = torch.from_numpy(encode(scorer, w).text_features)
    with torch.no_grad():
        logits = clip.logit_scale * clip.model.encode_image(pixels, normalize=True) @ text.T
    p = logits.double().softmax(dim=1)[torch.arange(40), torch.from_numpy(task.train.labels[chosen])]
    expected = float(((1 - p) ** 2 * -p.log()).mean())
    assert score(scorer, query_at(w))[0].loss == pytest.approx(expected, rel=1e-5)
    parts = slices(Pass((query_at(w),)), Partition(1, 3))
    (combined,) = combine(parts, answer_slices(scorer, parts), "focal")
    assert combined.loss == pytest.approx(expected, rel=1e-5)
    plain = evaluate(build_scorer(make_config()), "val", w)
    assert evaluate(scorer, "val", w).loss == plain.loss


def test_a_prompt_from_elsewhere_keeps_its_own_length_and_suffix(built: tuple[Config, Scorer, TextSpace]) -> None:
    _, scorer, _ = built
    words = build_scorer(make_config(prompt={"init": "a blurred drawing of"})).facts().shape.initial_context
    given = evaluate(scorer, "val", Prompt(words, suffix=" on paper."))
    spelt = evaluate(scorer, "val", "a blurred drawing of {} on paper.")
    assert given.loss == pytest.approx(spelt.loss, rel=1e-6)
    assert given.accuracy == spelt.accuracy


def test_without_a_context_the_template_is_the_text(built: tuple[Config, Scorer, TextSpace]) -> None:
    _, scorer, _ = built
    assert evaluate(scorer, "val", Prompt(None)) == evaluate(scorer, "val", scorer.facts().template)


def test_shape_of_the_model(built: tuple[Config, Scorer, TextSpace]) -> None:
    config, scorer, _ = built
    model = load_clip(config.model, "cpu").model
    shape = scorer.facts().shape
    assert shape.image_size == (32, 32)
    assert shape.token_std == pytest.approx(model.token_embedding.weight.numpy().std(), rel=1e-4)
    assert shape.patches is not None
    weight = model.visual.conv1.weight.numpy()
    assert (shape.patches.width, shape.patches.mean) == (128, pytest.approx(weight.mean(), rel=1e-3, abs=1e-6))
    assert shape.patches.std == pytest.approx(weight.std(), rel=1e-3)
