"""The checks of `zip-ray doctor` on this process: packages, devices, model, task and prompt."""

import importlib.metadata
import platform

import torch

from zip_ray.clip.loading import load_clip
from zip_ray.clip.plain_text import PromptEncoder, encode_texts, word_embeddings
from zip_ray.config.model import ModelConfig, VlmConfig
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.secrets import without_secrets
from zip_ray.config.served import ServedConfig
from zip_ray.config.threads import auto_threads, cores, threads
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.prompts import make_space
from zip_ray.protocol.facts import TEMPLATE_ONCE
from zip_ray.scorer.building import ScorerBuilder
from zip_ray.tasks import load_task
from zip_ray.tasks.identity import shared_images
from zip_ray.tasks.readable import sample, unreadable

OPENED = 2000
"""Images of a part that `doctor` opens at most."""
PACKAGES = ("ray", "torch", "open_clip_torch", "numpy", "mlflow", "pydantic", "safetensors")


def environment() -> str:
    """Python and the packages that a run needs.

    Raises:
        InputError: one is missing.
    """
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError as error:
            raise InputError(f"package {package} is missing: run `make install`") from error
    return f"Python {platform.python_version()}, {', '.join(versions)}"


def devices(config: Config) -> str:
    """Cores and GPUs of this machine, and how actors would share them.

    Raises:
        InputError: a GPU is asked for where there is none.
    """
    gpus = torch.cuda.device_count()
    cluster = config.cluster.settled(gpus)
    each, auto = threads(config), auto_threads(cluster)
    wanted = each * (1 if cluster.pool == "in-process" else cluster.most or 1)
    text = f"{cores()} CPU cores, {gpus} GPUs"
    asked = getattr(config.model, "device", "auto") == "cuda"
    if asked and gpus == 0 and cluster.address is None:
        raise InputError(f"model.device: 'cuda', but this machine shows {text}: use auto, or join a cluster with GPUs")
    if cluster.address is None and cluster.gpus == 0 and wanted > cores():
        return f"{text}; {wanted} threads of actors will share them: lower cluster.actors for full speed"
    if gpus and cluster.gpus == 0:
        return f"{text}; the GPUs stay idle: leave out cluster.gpus_per_actor"
    text = f"{text}, {each} {'thread' if each == 1 else 'threads'} per actor"
    return text if each >= auto else f"{text}; execution.threads auto would give it {auto}"


def model(config: Config) -> str:
    """Load the model, and compare a soft prompt of words with the words themselves.

    Raises:
        InputError: it cannot be loaded, or the two differ.
    """
    if isinstance(config.model, VlmConfig):
        return f"{config.model.name}: a generative model, held against its own forward pass with the prompt"
    if isinstance(config.model, ServedConfig):
        return f"{config.model.name} at {without_secrets(config.model.url)}: compared with its files with the prompt"
    if not isinstance(config.model, ModelConfig):
        return f"{config.model.scorer}: your own scorer, tested with the prompt"
    clip = load_clip(config.clip, "cpu")
    words, name = "a photo of a", "cat"
    context = word_embeddings(clip.model, clip.tokenizer, words).unsqueeze(0)
    soft = PromptEncoder(clip.model, clip.tokenizer, [name], context.shape[1]).encode(context)[0]
    difference = float((soft - encode_texts(clip.model, clip.tokenizer, [f"{words} {name}."])).abs().max())
    if not difference < 1e-5 or not torch.isfinite(soft).all():
        raise InputError(
            f"model.name: '{config.clip.name}' encodes a soft prompt of words differently from the words "
            f"(largest difference {difference:.1e}): choose another model"
        )
    size = sum(p.numel() for p in clip.model.parameters()) / 1e6
    return (
        f"{config.clip.name}: {size:.1f}M parameters; words and their embeddings give the same text features "
        f"(largest difference {difference:.0e})"
    )


def task(config: Config) -> str:
    """Load the task, and open its images: all of a small set, a sample of a large one.

    Raises:
        InputError: it cannot be loaded, or an image cannot be decoded.
    """
    found = load_task(config.task, config.seed)
    parts = [sample(part, OPENED) for part in (found.train, found.val, found.test)]
    faults = [fault for part in parts for fault in unreadable(part).values()]
    if faults:
        opened = f"{len(faults)} of the {sum(map(len, parts))} images that were opened"
        remedy = "--task.unreadable skip leaves them out"
        raise InputError(f"task: {opened} cannot be read; {remedy}; the first: {faults[0]}")
    sizes = f"{len(found.train)} training, {len(found.val)} validation, {len(found.test)} test images"
    text = f"{found.name}: {len(found.classnames)} classes, {sizes}, template '{found.template}'"
    return "; ".join([text, *found.notes, *shared_images(found)])


def prompt(config: Config) -> str:
    """Build the scorer of a run, and its prompt space.

    Raises:
        InputError: model, task and space do not fit together.
    """
    facts = ScorerBuilder().of_key(scorer_key(config)).facts()
    tokens, width = facts.shape.initial_context.shape
    unused = facts.clip is not None and facts.clip.text_pass == TEMPLATE_ONCE
    context = "" if unused else f"{tokens} context tokens of width {width}, "
    space = make_space(config.prompt, facts.shape, config.seed)
    found = f"{config.prompt.space}: {context}{space.dimension} parameters"
    if facts.vlm is not None:
        return "; ".join([found, f"answers: {facts.vlm.text_pass}", facts.vlm.memory])
    if facts.clip is None:
        return found
    return "; ".join([found, f"text tower: {facts.clip.text_pass}", facts.clip.precision or "float32"])
