"""Checks of all that a run needs, each with what to do about a fault."""

import importlib.metadata
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zip_ray.config.threads import auto_threads, cores, threads
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError

PACKAGES = ("ray", "torch", "open_clip_torch", "numpy", "mlflow", "pydantic", "safetensors")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    healthy: bool
    text: str
    """What was found; for a fault, with its remedy."""


def examine(config: Config, connect: Callable[[], str]) -> Iterator[Finding]:
    """Run all checks; a fault of one does not keep the others from running.

    Args:
        config: what the run would use.
        connect: joins or starts the cluster, says what it has, and leaves it.
    """
    checks: dict[str, Callable[[], str]] = {
        "environment": _environment,
        "devices": lambda: _devices(config),
        "model": lambda: _model(config),
        "task": lambda: _task(config),
        "prompt": lambda: _prompt(config),
        "cluster": connect,
        "tracking": lambda: _tracking(config),
    }
    for name, check in checks.items():
        try:
            yield Finding(name, True, check())
        except (InputError, PoolError) as error:
            yield Finding(name, False, str(error))


def _environment() -> str:
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError as error:
            raise InputError(f"package {package} is missing: run `make install`") from error
    return f"Python {platform.python_version()}, {', '.join(versions)}"


def _devices(config: Config) -> str:
    import torch

    gpus = torch.cuda.device_count()
    cluster = config.cluster.settled(gpus)
    each, auto = threads(config), auto_threads(cluster)
    wanted = each * (1 if cluster.pool == "in-process" else cluster.most or 1)
    text = f"{cores()} CPU cores, {gpus} GPUs"
    if config.model.device == "cuda" and gpus == 0 and cluster.address is None:
        raise InputError(f"model.device: 'cuda', but this machine shows {text}: use auto, or join a cluster with GPUs")
    if cluster.address is None and cluster.gpus == 0 and wanted > cores():
        return f"{text}; {wanted} threads of actors will share them: lower cluster.actors for full speed"
    if gpus and cluster.gpus == 0:
        return f"{text}; the GPUs stay idle: leave out cluster.gpus_per_actor"
    text = f"{text}, {each} threads per actor"
    return text if each >= auto else f"{text}; execution.threads auto would give it {auto}"


def _model(config: Config) -> str:
    """Load the model, and hold a soft prompt of words against the model's own reading of them."""
    import torch

    from zip_ray.clip.loading import load_clip
    from zip_ray.clip.plain_text import PromptEncoder, encode_texts, word_embeddings

    clip = load_clip(config.model, "cpu")
    words, name = "a photo of a", "cat"
    context = word_embeddings(clip.model, clip.tokenizer, words).unsqueeze(0)
    soft = PromptEncoder(clip.model, clip.tokenizer, [name], context.shape[1]).encode(context)[0]
    difference = float((soft - encode_texts(clip.model, clip.tokenizer, [f"{words} {name}."])).abs().max())
    if not difference < 1e-5 or not torch.isfinite(soft).all():
        raise InputError(
            f"model.name: '{config.model.name}' reads a soft prompt of words otherwise than the words "
            f"(largest difference {difference:.1e}): choose another model"
        )
    size = sum(p.numel() for p in clip.model.parameters()) / 1e6
    return f"{config.model.name}: {size:.1f}M parameters, soft prompt of words = words (difference {difference:.0e})"


def _task(config: Config) -> str:
    from zip_ray.tasks import load_task

    task = load_task(config.task, config.seed)
    sizes = f"{len(task.train)} training, {len(task.val)} validation, {len(task.test)} test images"
    return f"{task.name}: {len(task.classnames)} classes, {sizes}, template '{task.template}'"


def _prompt(config: Config) -> str:
    from zip_ray.prompts import make_space
    from zip_ray.protocol.facts import TEMPLATE_ONCE
    from zip_ray.scorer.scorer import build_scorer

    facts = build_scorer(config).facts()
    tokens, width = facts.shape.initial_context.shape
    context = "" if facts.text_pass == TEMPLATE_ONCE else f"{tokens} context tokens of width {width}, "
    space = make_space(config.prompt, facts.shape, config.seed)
    return "; ".join(
        [
            f"{config.prompt.space}: {context}{space.dimension} parameters",
            f"text tower: {facts.text_pass}",
            facts.precision or "float32",
        ]
    )


def _tracking(config: Config) -> str:
    from zip_ray.runs.mlflow_mirror import ping, shown

    if not config.tracking.enabled:
        return "off"
    ping(config.tracking)
    return f"{shown(config.tracking.uri)} answers"
