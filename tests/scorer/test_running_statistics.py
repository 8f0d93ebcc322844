"""BlackVIP's decoder with the running statistics of BatchNorm, against torch's own layers; and its scale."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.configs import zip_config
from tests.support.pools import RecordingPool
from tests.support.reference_decoder import reference_decoder
from tests.support.scoring import encode
from zip_ray.clip.loading import load_clip
from zip_ray.clip.visual_tower import encode_conditions, encode_prompted
from zip_ray.config.model import ModelConfig
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.prompts.visual import DecoderOptions, DecoderSpace
from zip_ray.protocol.mini_batches import mini_batch
from zip_ray.protocol.perturbations import points
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tasks import load_task
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState


def make_config(**sections: dict) -> Config:
    fixed = {
        "cluster": {"pool": "in-process"},
        "execution": {"cache": False},
        "task": {"shots": 1, "batch_size": 7},
        "prompt": {"space": "decoder", "statistics": "running"},
        "optimizer": {"method": "spsa-gc", "pairs_per_step": 2, "perturbation_scale": 0.3},
        "budget": {"queries": 12},
        "validation": {"every_queries": 4},
    }
    return zip_config({**fixed, **sections}, "test")


def test_what_is_deployed_has_the_running_statistics_of_all_points() -> None:
    """As torch's BatchNorm keeps them in training, query by query: momentum 0.1, unbiased variances."""
    config = make_config()
    scorer = build_scorer(config)
    space = make_space(config.prompt, scorer.facts().shape, config.seed)
    pool = RecordingPool(InProcessPool(lambda: scorer))
    start = RunState(OptimizerState(space.initial()))
    outcome = Tuning(config, pool, start, lambda _: None, lambda _: None).run()
    prompt = encode(scorer, outcome.state.optimizer.deployed).prompt
    assert prompt.visual is not None

    clip, task = load_clip(ModelConfig(), "cpu"), load_task(config.task, config.seed)
    decoder = reference_decoder(3, momentum=0.1).train().requires_grad_(False)
    trigger = space.dimension - sum(p.numel() for p in decoder.parameters())
    for ask in (ask for one in pool.passes for ask in one.asks):
        chosen = mini_batch(10, 7, config.seed, ask.batch)
        images = torch.stack([clip.preprocess(task.train.image(int(i))) for i in chosen])
        for point in points(ask):
            flat = torch.from_numpy(point).float()
            nn.utils.vector_to_parameters(flat[trigger:], decoder.parameters())
            conditions = encode_conditions(clip, images, "clip")
            decoder(torch.cat([conditions, flat[:trigger].expand(7, -1)], dim=1).reshape(-1, 32, 4, 4))
    norms = [layer for layer in decoder if isinstance(layer, nn.BatchNorm2d)]
    assert [int(norm.num_batches_tracked) for norm in norms] == [12, 12]
    for stage, norm in enumerate(norms):
        for name, expected in (("mean", norm.running_mean), ("variance", norm.running_var)):
            found = prompt.visual.tensors[f"{stage}.norm.{name}"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    at_its_own = encode(scorer, outcome.state.optimizer.w).prompt.visual
    assert at_its_own is not None
    assert np.abs(at_its_own.tensors["1.norm.mean"] - prompt.visual.tensors["1.norm.mean"]).max() > 1e-3


def test_a_pass_in_parts_keeps_no_account() -> None:
    with pytest.raises(InputError, match=r"execution\.split: .* leave it out, or set prompt\.statistics to batch"):
        make_config(execution={"split": [2, 1]})


def test_the_scale_is_a_factor_of_the_image_that_is_added() -> None:
    clip, rng = load_clip(ModelConfig(), "cpu"), np.random.default_rng(0)
    shape = build_scorer(make_config()).facts().shape
    w = DecoderSpace(DecoderOptions(), shape, 2).initial()
    images = torch.from_numpy(rng.uniform(-0.2, 0.2, (3, 3, 32, 32))).float()  # far from its clamping limits

    def added(scale: float) -> Tensor:
        visual = DecoderSpace(DecoderOptions(scale=scale), shape, 2).prompt(w).visual
        assert visual is not None
        seen: list[Tensor] = []
        handle = clip.model.visual.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        encode_prompted(clip, images, visual, conditions)
        handle.remove()
        return seen[0] - images

    conditions = encode_conditions(clip, images, "clip")
    assert float(added(0.2).abs().max()) > 1e-2
    torch.testing.assert_close(added(0.1), 0.5 * added(0.2), atol=1e-5, rtol=0)
