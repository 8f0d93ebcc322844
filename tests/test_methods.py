"""The method files: each is valid, has the parameters and the cost of its table, and runs on the small CLIP."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from zip_ray.checkpoint import RunState
from zip_ray.clip.model import FrozenClip, load_clip
from zip_ray.clip.scorer import Scorer
from zip_ray.config import load_config, validate
from zip_ray.data import Task, load_task
from zip_ray.optimizers import OptimizerState
from zip_ray.pool import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.tuning import Tuning

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "methods"
FILES = sorted(FOLDER.glob("*.yaml"))
SIZES = {
    "zip": (417, 10),
    "zip-tuned": (5 * (7 + 1 + 42) + 42, 2),  # seven words stand before {} in the digits' template
    "spsa": (8 * 128, 10),
    "spsa-gc": (8 * 128, 10),
    "bbt": (100, 20),
    "random-search": (100, 10),
    "coop": (7 * 128, 1),
    "gradient": (5 * (7 + 1 + 42) + 42, 1),
}
"""Parameters at the small CLIP's width, and queries a step."""
TASK = {"shots": 1, "batch_size": 10}


@pytest.fixture(scope="module")
def parts() -> tuple[FrozenClip, Task]:
    config = validate({"task": TASK}, "test")
    return load_clip(config.model, "cpu"), load_task(config.task, config.seed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_opens_with_its_command_and_is_valid(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# python run.py tune configs/methods/{path.name}"
    load_config(path)


@pytest.mark.parametrize("name", SIZES)
def test_a_step_of_a_text_method_on_the_small_clip(name: str, parts: tuple[FrozenClip, Task]) -> None:
    tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    config = validate({**tree, "budget": {"steps": 1}, "task": TASK, "cluster": {"pool": "in-process"}}, name)
    scorer = Scorer(*parts, config)
    space = make_space(config, scorer.facts().shape)
    start = RunState(OptimizerState(space.initial()))
    end = Tuning(config, InProcessPool(lambda: scorer), start, lambda _: None, lambda _: None).run().state
    assert (space.dimension, end.account.charged) == SIZES[name]
    assert end.optimizer.steps == 1
    assert np.isfinite(end.optimizer.w).all()
    assert name == "random-search" or (end.optimizer.w != space.initial()).any()
