"""Models of open_clip with random weights, and scorers made of them: speed does not depend on the weights."""

from functools import lru_cache

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import nn

from benchmarks.on_gpu.running import Setting
from benchmarks.text_ideas import tokenizer_of
from zip_ray.clip.loading import FrozenClip, load_clip, resolve_name
from zip_ray.config.model import ModelConfig
from zip_ray.config.reading import validate
from zip_ray.config.task import TaskConfig
from zip_ray.config.tree import Config
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Pair, Perturbation, PerturbationLaw, ScoresWanted
from zip_ray.scorer.scorer import Scorer
from zip_ray.tasks import Task, load_task

SMALL = "small-clip"
"""The model that ships, with its own weights."""


@lru_cache(1)  # two large models may not fit
def random_model(name: str, device: str) -> nn.Module:
    """A model whose weights are drawn on the device; drawing them on the host takes minutes for the largest."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    with torch.device(device):
        model = open_clip.create_model(resolve_name(name), device=device)
    return model.float().eval().requires_grad_(False)


def configure(setting: Setting, queries: int, method: str = "gauss-newton", **sections: object) -> Config:
    """The config of a run in one process, on the device."""
    base = {
        "seed": 1,
        "task": {"name": "texture" if setting.quick else "letter"},
        "model": {"device": setting.device},
        "optimizer": {"method": method},
        "budget": {"queries": queries},
        "cluster": {"pool": "in-process"},
        "execution": {"cache": False},
        "readout": "none",
    }
    return validate({**base, **sections}, "benchmark")


def make_scorer(name: str, device: str, config: Config) -> Scorer:
    """The scorer of a run, around the model that ships or one with random weights."""
    return Scorer(_frozen(name, device), _task(config.task, config.seed), config)


def pairs_at(w: Float64, count: int, law: PerturbationLaw, scale: float) -> tuple[Pair, ...]:
    """Pairs around a point, on one mini-batch, that also want scores."""
    at = {"step": 1, "version": 0, "w": w, "batch": 1, "scale": scale, "scores": ScoresWanted()}
    return tuple(Pair(index=k, perturbation=Perturbation(law, 1, 1, k), **at) for k in range(count))


@lru_cache(1)
def _task(options: TaskConfig, seed: int) -> Task:
    """Load a task, kept in memory since drawing the images takes seconds."""
    return load_task(options, seed)


def _frozen(name: str, device: str) -> FrozenClip:
    if name == SMALL:
        return load_clip(ModelConfig(name=SMALL), device)
    model = random_model(name, device)
    settings = dict(model.visual.preprocess_cfg)  # type: ignore[union-attr, arg-type]
    preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    return FrozenClip(model, tokenizer_of(model), preprocess, settings, torch.device(device))
