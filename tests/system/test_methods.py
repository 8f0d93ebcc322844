"""Each method file is valid, has the parameters and cost its table gives, and runs on the small CLIP."""

from functools import partial
from pathlib import Path

import numpy as np
import yaml

from tests.support.faults import check_each
from tests.support.paths import ROOT
from zip_ray.clip.loading import FrozenClip, load_clip
from zip_ray.config.reading import load_config, validate
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.runs.beginning import Beginning
from zip_ray.runs.query_plan import plan_queries
from zip_ray.scorer.scorer import Scorer
from zip_ray.tasks import Task, load_task
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState

FILES = sorted((ROOT / "configs" / "methods").glob("*.yaml"))
SIZES = {
    "gauss-newton": (7 * 128, 12),  # that of the smallest round
    "zip": (417, 10),
    "zip-tuned": (5 * (7 + 1 + 42) + 42, 2),  # seven words stand before {} in the digits' template
    "spsa": (8 * 128, 10),
    "spsa-gc": (8 * 128, 10),
    "spsa-tuned": (7 * 128, 2),
    "spsa-gc-tuned": (7 * 128, 10),
    "bbt": (100, 20),
    "random-search": (100, 10),
    "coop": (7 * 128, 1),
    "gradient": (5 * (7 + 1 + 42) + 42, 1),
    "bar": (3 * 32 * 32, 6),
    "blackvip": (7744, 10),
    "blackvip-tuned": (7744, 10),
    "bar-tuned": (3 * 32 * 32, 6),
    "bpt-vlm": (4000, 15),
    "bpt-vlm-tuned": (4000, 15),
}
"""Parameters at the small CLIP's width, and queries per step."""
TASK = {"shots": 1, "batch_size": 10}


def load_parts() -> tuple[FrozenClip, Task]:
    config = validate({"task": TASK}, "test")
    return load_clip(config.model, "cpu"), load_task(config.task, config.seed)


def test_the_methods_are_all_here() -> None:
    assert {path.stem for path in FILES} >= SIZES.keys()


def test_each_opens_with_its_command_and_runs() -> None:
    check_each(FILES, partial(opens_with_its_command_and_runs, load_parts()))


def opens_with_its_command_and_runs(parts: tuple[FrozenClip, Task], path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# zip-ray tune methods/{path.stem}"
    steps = load_config(path).optimizer.queries_per_step
    tree = {**yaml.safe_load(path.read_text(encoding="utf-8")), "budget": {"queries": steps}, "task": TASK}
    config = validate({**tree, "cluster": {"pool": "in-process"}}, path.name)
    scorer = Scorer(*parts, config)
    facts = scorer.facts()
    space = make_space(config.prompt, facts.shape, config.seed)
    begun = Beginning(plan_queries(config, facts), None, None, facts, space)
    problem = begun.problem(config) if config.optimizer.wants_scores else None
    if path.stem in SIZES:
        assert (space.dimension, steps) == SIZES[path.stem]
    start = RunState(OptimizerState(space.initial()))
    pool = InProcessPool(lambda: scorer)
    end = Tuning(config, pool, start, lambda _: None, lambda _: None, problem=problem).run()
    assert list(end.reasons) == ["queries"]
    assert (end.state.optimizer.steps, end.state.account.charged) == (1, steps)
    assert np.isfinite(end.state.optimizer.w).all()
    assert path.stem == "random-search" or (end.state.optimizer.w != space.initial()).any()
