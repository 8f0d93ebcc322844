"""Runs over a generative model: the same bits on any number of actors, and the tuned prompt in use."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from tests.support.paths import ROOT
from tests.support.pools import SharingPool
from zip_ray import api
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.pool.splitting import split_if_asked
from zip_ray.scorer.generative import VlmScorers

GUIDE = (ROOT / "docs" / "guides" / "large-models.md").read_text(encoding="utf-8")
SCORERS = VlmScorers()


def run(tree: dict[str, Any], folder: Path, actors: int = 1, **sections: Any) -> Config:
    """A finished run in that folder, over so many scorers that share its images out."""
    rest = {"output": {"dir": str(folder)}, "execution": {"split": [1, 2], "cache": False}}
    config = validate({**tree, **rest, **sections}, "")
    scorers = [SCORERS(config) for _ in range(actors)]
    api.tune(config, lambda one: split_if_asked(SharingPool(scorers), one))
    return config


@pytest.mark.parametrize("method", ["zip", "gauss-newton"])
def test_the_same_bits_on_any_number_of_actors(method: str, painted_vlm_run: dict[str, Any], tmp_path: Path) -> None:
    own: dict[str, Any] = {"optimizer": {"method": method}, "budget": {"queries": 60}}
    if method == "gauss-newton":
        own["prompt"] = {"space": "context", "init": "auto"}
    found = []
    for actors in (1, 2, 4):
        run(painted_vlm_run, tmp_path / str(actors), actors, **own)
        found.append(TunedPrompt.load(tmp_path / str(actors)))
    for one in found[1:]:
        np.testing.assert_array_equal(one.parameters, found[0].parameters)
        np.testing.assert_array_equal(one.prompt.context, found[0].prompt.context)
        assert one.card.accuracies == found[0].card.accuracies
    assert found[0].card.queries > 40


@pytest.fixture(scope="module")
def tuned(painted_vlm_run: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ends with a readout."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    own = {"prompt": {"space": "context", "init": "auto"}, "optimizer": {"method": "gauss-newton"}}
    run(painted_vlm_run, folder, budget={"queries": 60}, **own)
    return folder


def images_of(tree: dict[str, Any]) -> list[Path]:
    return sorted(Path(tree["task"]["root"]).rglob("*.png"))


def test_its_accuracy_is_that_of_the_file(painted_vlm_run: dict[str, Any], tuned: Path) -> None:
    prompt = TunedPrompt.load(tuned)
    config = validate(painted_vlm_run, "")
    found = api.evaluate(tuned, config).accuracies
    assert found["tuned"] == prompt.card.accuracies["test/tuned"]
    assert found["plain template"] == prompt.card.accuracies["test/plain template"]
    assert found.get("tuned + readout") == prompt.card.accuracies.get("test/tuned + readout")


def test_it_classifies_other_classes_too(painted_vlm_run: dict[str, Any], tuned: Path) -> None:
    files = images_of(painted_vlm_run)[:3]
    own = TunedPrompt.load(tuned).classifier()(files)
    assert [one.path for one in own] == files
    assert all(sum(one.probabilities.values()) == pytest.approx(1) for one in own)
    with pytest.warns(UserWarning, match="readout was fitted to other classes"):
        others = list(api.classify(tuned, files[0], ("cat", "dog", "purple")))
    assert list(others[0].probabilities) == ["cat", "dog", "purple"]


def test_plain_transformers_code_gives_its_scores(painted_vlm_run: dict[str, Any], tuned: Path) -> None:
    """The code of the guide."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    made: dict[str, Any] = {}
    exec(code, made)
    image = images_of(painted_vlm_run)[0]
    folder = painted_vlm_run["model"]["name"].removeprefix("transformers:")
    scores = made["scores"](tuned / "tuned_prompt.safetensors", folder, Image.open(image).convert("RGB"))
    prompt = TunedPrompt.load(tuned)
    alone = TunedPrompt(prompt.card, prompt.prompt, prompt.features, prompt.parameters, prompt.frozen).classifier()
    (found,) = alone(image)
    assert list(scores) == list(found.probabilities)
    np.testing.assert_allclose(softmax(list(scores.values())), list(found.probabilities.values()), atol=1e-5)
