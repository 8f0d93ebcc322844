"""Runs over a generative model: the same bits on any number of actors, and the tuned prompt in use."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ray.cluster_utils import Cluster
from scipy.special import softmax

from tests.support.paths import ROOT
from tests.support.pools import SharingPool
from tests.support.processes import HANG_SECONDS
from tests.support.ray_cluster import add_node
from zip_ray import api
from zip_ray.actors.ray_pool import RayPool
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.pool.contract import Pool
from zip_ray.pool.splitting import split_if_asked
from zip_ray.scorer.generative import VlmScorers
from zip_ray.tuning.events import Event, StepEvent

GUIDE = (ROOT / "docs" / "guides" / "large-models.md").read_text(encoding="utf-8")
SCORERS = VlmScorers()


def run(tree: dict[str, Any], folder: Path, actors: int = 1, **sections: Any) -> Config:
    """Finish a run in this folder, with as many scorers as actors sharing its images."""
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


def test_an_actor_with_two_gpus_is_one_and_is_replaced_as_one(
    painted_vlm_run: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    """Killed in the middle of a run: the same bits as without Ray, and each query is charged once."""
    own: dict[str, Any] = {"budget": {"queries": 60}}
    run(painted_vlm_run, tmp_path / "alone", execution={"cache": False}, **own)
    there = {"cluster": {"address": cluster.address, "gpus_per_actor": 2, "start_timeout": HANG_SECONDS}}
    config = validate({**painted_vlm_run, **own, **there, "output": {"dir": str(tmp_path / "ray")}}, "")
    node = add_node(cluster, num_cpus=4, num_gpus=4)
    opened: list[RayPool] = []
    lost: list[int] = []

    def open_pool(one: Config) -> Pool:
        pool = api.open_pool(one)
        assert isinstance(pool, RayPool)
        opened.append(pool)
        return pool

    def kill_one(event: Event) -> None:
        if isinstance(event, StepEvent) and not lost:
            lost.append(opened[0].pids()[0])
            os.kill(lost[0], signal.SIGKILL)

    try:
        found = api.tune(config, open_pool, listen=kill_one)
    finally:
        cluster.remove_node(node)
    assert lost
    alone, ray = (TunedPrompt.load(tmp_path / place) for place in ("alone", "ray"))
    np.testing.assert_array_equal(ray.parameters, alone.parameters)
    np.testing.assert_array_equal(ray.prompt.context, alone.prompt.context)
    assert ray.card.accuracies == alone.card.accuracies
    assert found.outcome.state.account.charged == alone.card.queries


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
