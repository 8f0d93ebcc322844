"""Visual prompts through the real scorer: losses, shards of the images, evaluations, a short run of each."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.support.configs import zip_config
from tests.support.painted import COLOURS, paint
from tests.support.scoring import answer_slices, encode, pair_at, query_at, score
from tests.support.scoring import evaluate as evaluate_on
from zip_ray.artifact.evaluation import score_test
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.clip.image_features import fresh_pixels, view_pixels
from zip_ray.clip.loading import FrozenClip, load_clip
from zip_ray.clip.plain_text import PromptEncoder, encode_texts
from zip_ray.clip.prompted_images import PromptedBatches
from zip_ray.clip.visual_tower import encode_prompted, inside_frame
from zip_ray.config.model import ModelConfig
from zip_ray.config.tree import Config
from zip_ray.pool.contract import Pool
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.split_planner import Partition
from zip_ray.pool.splitting import combine, slices, split_if_asked
from zip_ray.prompts import make_space
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import TEMPLATE_ONCE, Prompt, VisualPrompt
from zip_ray.protocol.messages import Pass
from zip_ray.protocol.mini_batches import mini_batch, mini_batch_views
from zip_ray.protocol.perturbations import points
from zip_ray.runs.lifecycle import tune
from zip_ray.runs.run_result import RunResult
from zip_ray.scorer.scorer import Scorer, build_scorer
from zip_ray.tasks import Task, load_task

PROMPTS = {
    "frame": {"space": "frame"},
    "decoder": {"space": "decoder"},
    "tokens": {"space": "tokens", "tokens": 3, "intrinsic_dimension": 30},
}


def make_config(space: str, **sections: dict) -> Config:
    task = {"shots": 1, "batch_size": 7, **sections.pop("task", {})}
    execution = {"cache": False, **sections.pop("execution", {})}
    fixed = {"cluster": {"pool": "in-process"}, "execution": execution, "task": task, "prompt": PROMPTS[space]}
    return zip_config({**fixed, **sections}, "test")


@pytest.fixture(scope="module", params=list(PROMPTS))
def built(request: pytest.FixtureRequest) -> tuple[Config, Scorer]:
    config = make_config(request.param)
    return config, build_scorer(config)


def start(config: Config, scorer: Scorer) -> Float64:
    """The parameters that a run begins with."""
    return make_space(config.prompt, scorer.facts().shape, config.seed).initial()


def two_pairs(config: Config, scorer: Scorer) -> Pass:
    """On two mini-batches."""
    w = start(config, scorer)
    return Pass(tuple(pair_at(w, index, batch=1 + index, scale=0.5) for index in range(2)))


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return load_clip(ModelConfig(), "cpu")


def seen(clip: FrozenClip, config: Config) -> FrozenClip:
    """The model, with smaller images where the prompt is a frame."""
    return inside_frame(clip) if config.prompt.space == "frame" else clip


def expected_loss(clip: FrozenClip, task: Task, prompt: Prompt, pixels: Tensor, labels: np.ndarray) -> float:
    """Cross-entropy from all images at once, with the plain pass through the text tower."""
    if prompt.context is None:
        texts = [task.template.replace("{}", name) for name in task.classnames]
        text = encode_texts(clip.model, clip.tokenizer, texts)
    else:
        encoder = PromptEncoder(clip.model, clip.tokenizer, task.classnames, len(prompt.context))
        text = encoder.encode(torch.from_numpy(prompt.context).unsqueeze(0))[0]
    assert prompt.visual is not None
    logits = clip.logit_scale * encode_prompted(clip, pixels, prompt.visual).double() @ text.double().T
    return float(functional.cross_entropy(logits, torch.from_numpy(labels)))


def test_losses_are_those_of_prompted_images(built: tuple[Config, Scorer], clip: FrozenClip) -> None:
    config, scorer = built
    task = load_task(config.task, config.seed)
    pairs = two_pairs(config, scorer).asks
    results = score(scorer, *pairs)
    space = make_space(config.prompt, scorer.facts().shape, config.seed)
    for pair, result in zip(pairs, results, strict=True):
        chosen = mini_batch(len(task.train), 7, config.seed, pair.batch)
        labels = task.train.labels[chosen]
        pixels = torch.stack([seen(clip, config).preprocess(task.train.image(i)) for i in chosen])
        for loss, w in zip(result.losses, points(pair), strict=True):
            assert loss == pytest.approx(expected_loss(clip, task, space.prompt(w), pixels, labels), rel=1e-5)
        assert abs(result.losses[0] - result.losses[1]) > 1e-4
    (query,) = score(scorer, query_at(points(pairs[0])[0]))
    assert query.loss == pytest.approx(results[0].losses[0], rel=1e-6)
    assert (scorer.facts().clip.text_pass == TEMPLATE_ONCE) == (config.prompt.space != "tokens")


def test_bytes_are_kept_without_loss(clip: FrozenClip) -> None:
    """Normalised again, they equal the output of preprocessing bit for bit."""
    config = make_config("tokens")
    task = load_task(config.task, config.seed)
    batches = PromptedBatches(clip, task.train, config.task, config.prompt, config.seed)
    none = VisualPrompt("tokens", {"tokens": np.zeros((0, 128), np.float32)})
    pixels = torch.stack([clip.preprocess(task.train.image(i)) for i in mini_batch(10, 7, config.seed, 3)])
    assert torch.equal(batches.features(3, none, slice(None)), encode_prompted(clip, pixels, none))


@pytest.mark.parametrize(("sides", "shards"), [(1, 3), (2, 2)])
def test_shards_of_the_images_make_up_the_pass(built: tuple[Config, Scorer], sides: Literal[1, 2], shards: int) -> None:
    config, scorer = built
    pairs = two_pairs(config, scorer)
    parts = slices(pairs, Partition(sides, shards, "images"))
    found = answer_slices(scorer, parts)
    assert {one.maxima.shape[1] for part in found for one in part.of_asks} <= {2, 3, 4}
    for result, expected in zip(combine(parts, found, "cross-entropy"), score(scorer, *pairs.asks), strict=True):
        assert result.losses == pytest.approx(expected.losses, rel=1e-6)
        assert result.accuracy == pytest.approx(expected.accuracy)


@pytest.mark.parametrize("space", ["decoder", "frame"])
@pytest.mark.parametrize("views", [2, "fresh"])
def test_random_crops_are_prompted_too(views, space: str, clip: FrozenClip) -> None:
    config = make_config(space, task={"shots": 1, "batch_size": 7, "views": views})
    scorer, task = build_scorer(config), load_task(config.task, config.seed)
    query = query_at(start(config, scorer), batch=2)
    chosen = mini_batch(10, 7, config.seed, 2)
    if views == "fresh":
        assert not config.encodes_crops
        pixels = list(fresh_pixels(seen(clip, config), task.train, config.task, config.seed, 2))
    else:
        fixed = [list(view) for view in view_pixels(seen(clip, config), task.train, config.task, config.seed)]
        pixels = [fixed[v][i] for v, i in zip(mini_batch_views(7, 2, config.seed, 2), chosen, strict=True)]
    prompt = make_space(config.prompt, scorer.facts().shape, config.seed).prompt(query.w)
    expected = expected_loss(clip, task, prompt, torch.stack(pixels), task.train.labels[chosen])
    assert score(scorer, query)[0].loss == pytest.approx(expected, rel=1e-5)


def test_what_is_deployed_judges_each_image_for_itself(built: tuple[Config, Scorer], clip: FrozenClip) -> None:
    config, scorer = built
    w = start(config, scorer)
    found = evaluate_on(scorer, "val", w)
    prompt = encode(scorer, w).prompt
    assert evaluate_on(scorer, "val", prompt) == found
    task = load_task(config.task, config.seed)
    preprocess = seen(clip, config).preprocess
    losses = [
        expected_loss(clip, task, prompt, preprocess(task.val.image(i)).unsqueeze(0), task.val.labels[i : i + 1])
        for i in range(len(task.val))
    ]
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.loss != pytest.approx(evaluate_on(scorer, "val", task.template).loss, rel=1e-3)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of coloured images: six for training and nine for testing."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        for split, count in (("train", 4), ("test", 3)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 90, (32, 32, 3)).astype(np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def run(space: str, images: Path, folder: Path, split: tuple[int, int]) -> RunResult:
    config = make_config(
        space,
        task={"name": "folder", "root": str(images), "shots": 2, "batch_size": 6},
        optimizer={"method": "spsa-gc", "pairs_per_step": 1, "perturbation_scale": 0.05},
        budget={"queries": 8},
        validation={"every_queries": 8},
        execution={"split": split},
        output={"dir": str(folder)},
        tracking={"enabled": False},
    )

    def open_pool(config: Config) -> Pool:
        return split_if_asked(InProcessPool(lambda: build_scorer(config)), config)

    return tune(config, open_pool, lambda: False)


@pytest.mark.parametrize("space", list(PROMPTS))
def test_a_run_from_end_to_end(space: str, images: Path, tmp_path: Path) -> None:
    whole = run(space, images, tmp_path / "whole", (1, 1))
    split = run(space, images, tmp_path / "split", (1, 2))
    w, again = (result.outcome.state.optimizer.w for result in (whole, split))
    np.testing.assert_allclose(again, w, rtol=1e-3, atol=1e-3)
    prompt = TunedPrompt.load(tmp_path / "whole")
    assert prompt.card.visual == space
    task = make_config(space, task={"name": "folder", "root": str(images)}).task
    assert score_test(prompt, task, 1).accuracies["tuned"] == whole.accuracies["tuned"]
    found = prompt.classifier()(images / "test")
    assert len(found) == 9
    hits = [one.classname == one.path.parent.name for one in found]
    assert np.mean(hits) == pytest.approx(whole.accuracies["tuned"])


def test_a_visual_prompt_elsewhere_goes_with_the_text_of_that_task(images: Path, tmp_path: Path) -> None:
    """As in a suite, where the target task brings its own template."""
    run("frame", images, tmp_path / "run", (1, 1))
    prompt = TunedPrompt.load(tmp_path / "run")
    for template in ("a photo of {}.", "a sketch of the letter {} in red"):
        there = make_config("frame", task={"name": "folder", "root": str(images), "template": template})
        found = evaluate_on(build_scorer(there), "test", prompt.prompt)
        assert score_test(prompt, there.task, 1).accuracies["tuned"] == pytest.approx(found.accuracy)


def test_a_task_without_training_images_is_tested(built: tuple[Config, Scorer], tmp_path: Path) -> None:
    """A transfer target may lack them: its prompt comes from another task."""
    source, tuned = built
    for colour in COLOURS:
        paint(tmp_path / "test" / colour / "0.png", colour)
    task = {"name": "folder", "root": str(tmp_path)}
    scorer = build_scorer(make_config(source.prompt.space, task=task, model={"precision": "tf32"}))
    facts = scorer.facts()
    assert facts.images == {"train": 0, "val": 0, "test": 3}
    assert facts.clip.precision == "tf32: not measured, without training images"
    prompt = encode(tuned, start(source, tuned)).prompt
    assert evaluate_on(scorer, "test", prompt).accuracy >= 1 / 3
