"""Using a tuned prompt on any images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.clip.loading import FrozenClip, load_clip
from zip_ray.clip.prompted_images import prompted_features
from zip_ray.config.model import ModelConfig
from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Float32
from zip_ray.tasks.decoding import as_rgb, named, read_image
from zip_ray.tasks.image_folder import list_images

IMAGES_PER_PASS = 64
Given = str | Path | Image.Image
"""An image file, a folder of images, or an image that is open."""


@dataclass(frozen=True)
class Prediction:
    """The most probable class of an image, and how probable each class is."""

    path: Path | None
    """Path of the image; None for an image that was passed open."""
    classname: str
    probability: float
    probabilities: dict[str, float] = field(repr=False)
    """Probabilities by class name, in the order of the classes."""


class Classifier(ABC):
    """A tuned prompt with its frozen model: images in, class names and probabilities out."""

    classnames: tuple[str, ...]
    """Class names to choose from."""

    def __call__(self, images: Given | Iterable[Given]) -> list[Prediction]:
        """The class of each image, in their order; those of a folder in the order of their names.

        Raises:
            InputError: no image, or an unreadable one.
        """
        return list(self.each(images))

    def each(
        self, images: Given | Iterable[Given], skip: Callable[[InputError], None] | None = None
    ) -> Iterator[Prediction]:
        """The same, one after another, with a few images in memory at a time.

        Args:
            images: as in a call.
            skip: receives the fault of each unreadable file, which is left out; the first is raised where absent.
        """
        opened = _opened(images, skip)
        while part := list(islice(opened, IMAGES_PER_PASS)):
            rows = self._probabilities([image for _, image in part])
            for (path, _), row in zip(part, rows, strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                yield Prediction(path, self.classnames[best], row[best], dict(zip(self.classnames, row, strict=True)))

    @abstractmethod
    def _probabilities(self, opened: list[Image.Image]) -> list[list[float]]:
        """Class probabilities of open images, shape (images, classes)."""


class ClipClassifier(Classifier):
    """A classifier that uses a model of open_clip."""

    def __init__(self, prompt: TunedPrompt, classnames: Sequence[str] | None = None) -> None:
        """Load the model, on the GPU where there is one.

        The prompt's readout is used if it has one and was fitted to these classes; for other classes a warning says so.

        Args:
            prompt: a tuned prompt.
            classnames: classes to choose from; the prompt's own if None.

        Raises:
            InputError: the prompt's model cannot be loaded, or the classes cannot be used.
        """
        self.classnames = prompt.classes(classnames)
        self._clip, self._prompt = load_model(prompt), prompt
        self._read_out = prompt.read_out(self.classnames)
        self._text = prompt.text_features(self._clip.model, self._clip.tokenizer, self.classnames)

    @torch.no_grad()
    def _probabilities(self, opened: list[Image.Image]) -> list[list[float]]:
        images = prompted_features(self._clip, opened, self._prompt.prompt.visual)
        plain = self._prompt.card.logit_scale * images @ self._text.T
        scores = plain if self._read_out is None else folded_scores(images, self._read_out)
        found: list[list[float]] = scores.softmax(dim=1).tolist()
        return found


def classifier_of(prompt: TunedPrompt, classnames: Sequence[str] | None = None) -> Classifier:
    """The classifier of a tuned prompt, whatever kind of model it was tuned on.

    Args:
        prompt: a tuned prompt.
        classnames: classes to choose from; the prompt's own if None.

    Raises:
        InputError: the prompt's model cannot be loaded, or the classes cannot be used.
    """
    if prompt.card.scorer == "vlm":
        from zip_ray.artifact.answer_classifier import AnswerClassifier

        return AnswerClassifier(prompt, classnames)
    return ClipClassifier(prompt, classnames)


def _opened(
    images: Given | Iterable[Given], skip: Callable[[InputError], None] | None
) -> Iterator[tuple[Path | None, Image.Image]]:
    """Images with their paths, opened when they are needed; `skip` as in `Classifier.each`."""
    for one in [images] if isinstance(images, str | Path | Image.Image) else images:
        if isinstance(one, Image.Image):
            with named("an open image"):
                shown = as_rgb(one)
            yield None, shown
        else:
            for file in list_images(Path(one)):
                try:
                    image = read_image(file)
                except InputError as error:
                    if skip is None:
                        raise
                    skip(error)
                    continue
                yield file, image


def folded_scores(images: Tensor, read_out: tuple[Float32, Float32]) -> Tensor:
    """Class scores of image features, by a folded readout."""
    head, bias = (torch.from_numpy(part).to(images.device) for part in read_out)
    return images @ head.T + bias


def load_model(prompt: TunedPrompt) -> FrozenClip:
    """The model that a prompt was tuned on, on the GPU where there is one.

    Raises:
        InputError: it cannot be loaded, or is of another scorer.
    """
    if prompt.card.scorer != "clip":
        raise InputError(
            f"the prompt was tuned with model.scorer '{prompt.card.scorer}', which takes images of its task, no files: "
            "test it with `zip-ray evaluate --cluster.pool ray`"
        )
    config = ModelConfig(name=prompt.card.model, pretrained=prompt.card.pretrained)
    return load_clip(config, "cuda" if torch.cuda.is_available() else "cpu")
