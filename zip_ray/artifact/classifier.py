"""Using a tuned prompt: on a task's test images, or on image files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, TunedPrompt
from zip_ray.clip.image_features import split_features
from zip_ray.clip.loading import FrozenClip, load_clip
from zip_ray.clip.plain_text import encode_texts
from zip_ray.clip.prompted_images import prompted_features
from zip_ray.config.model import ModelConfig
from zip_ray.config.task import TaskConfig
from zip_ray.protocol.arrays import Float32
from zip_ray.tasks import load_task
from zip_ray.tasks.image_folder import list_images
from zip_ray.tasks.images import each_image, read_image

FILES_PER_PASS = 64


@dataclass(frozen=True)
class Prediction:
    """The most probable class of an image."""

    path: Path
    classname: str
    probability: float


def evaluate(prompt: TunedPrompt, task: TaskConfig, seed: int) -> dict[str, float]:
    """Test accuracy of a tuned prompt, and of the task's plain template, on any task: the prompt's own or another.

    With its readout too, where it has one and the classes are its own; where they are others, a warning says so. If
    only images were tuned, the texts are the task's plain template, as in tuning.

    Raises:
        InputError: the task or the prompt's model cannot be used.
    """
    clip = _load(prompt)
    data = load_task(task, seed)
    images = split_features(clip, data.test)
    visual = prompt.prompt.visual
    prompted = images if visual is None else prompted_features(clip, each_image(data.test), visual)
    labels = torch.from_numpy(data.test.labels).to(images.device)
    plain = encode_texts(clip.model, clip.tokenizer, [data.template.replace("{}", name) for name in data.classnames])
    is_text = prompt.prompt.context is not None
    tuned = prompt.text_features(clip.model, clip.tokenizer, data.classnames) if is_text else plain

    def accuracy(scores: Tensor) -> float:
        return float((scores.argmax(dim=1) == labels).double().mean())

    found = {PLAIN_TEMPLATE: accuracy(images @ plain.T), TUNED: accuracy(prompted @ tuned.T)}
    read_out = prompt.read_out(data.classnames)
    if read_out is not None:
        found[READ_OUT] = accuracy(_scores(prompted, read_out))
    return found


def classify(prompt: TunedPrompt, path: Path, classnames: tuple[str, ...] | None = None) -> Iterator[Prediction]:
    """The class of each image file, in the order of their names.

    By the prompt's readout, where it has one and the classes are its own; where they are others, a warning says so.

    Args:
        prompt: a tuned prompt.
        path: an image, or a folder of images.
        classnames: classes to choose from; the prompt's own if None.

    Raises:
        InputError: no image, an unreadable one, or the prompt's model cannot be used.
    """
    files = list_images(path)
    clip = _load(prompt)
    names = classnames or prompt.card.classnames
    read_out = prompt.read_out(names)
    text = prompt.text_features(clip.model, clip.tokenizer, names)
    for start in range(0, len(files), FILES_PER_PASS):
        part = files[start : start + FILES_PER_PASS]
        images = prompted_features(clip, map(read_image, part), prompt.prompt.visual)
        scores = prompt.card.logit_scale * images @ text.T if read_out is None else _scores(images, read_out)
        probabilities, classes = scores.softmax(dim=1).max(dim=1)
        for file, probability, label in zip(part, probabilities.tolist(), classes.tolist(), strict=True):
            yield Prediction(file, names[label], probability)


def _scores(images: Tensor, read_out: tuple[Float32, Float32]) -> Tensor:
    """Class scores of image features, by a folded readout."""
    head, bias = (torch.from_numpy(part).to(images.device) for part in read_out)
    return images @ head.T + bias


def _load(prompt: TunedPrompt) -> FrozenClip:
    config = ModelConfig(name=prompt.card.model, pretrained=prompt.card.pretrained)
    return load_clip(config, "cuda" if torch.cuda.is_available() else "cpu")
