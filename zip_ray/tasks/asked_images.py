"""Images that each have a question, and maybe candidate answers, of their own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from zip_ray.protocol.arrays import Int64
from zip_ray.tasks.images import ImageSet


@dataclass(frozen=True)
class Asked:
    """What is asked of an image."""

    question: str
    options: tuple[str, ...] = ()
    """Its candidate answers; empty where they are the task's classes."""


@dataclass(frozen=True)
class QuestionImages:
    """Labelled images with questions. The label of one with options is the place of the right one."""

    images: ImageSet
    asked: tuple[Asked, ...]

    @property
    def labels(self) -> Int64:
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image.Image:
        return self.images.image(index)

    def subset(self, indices: Sequence[int] | Int64) -> "QuestionImages":
        return QuestionImages(self.images.subset(indices), tuple(self.asked[i] for i in indices))

    def labelled(self, labels: Int64) -> "QuestionImages":
        return replace(self, images=self.images.labelled(labels))

    def digest(self) -> str:
        return hashlib.sha256(f"{self.images.digest()} {self.asked}".encode()).hexdigest()


def asked_of(images: ImageSet, index: int, classnames: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The question of an image (empty where it is the task's), and its candidate answers."""
    if not isinstance(images, QuestionImages):
        return "", classnames
    asked = images.asked[index]
    return asked.question, asked.options or classnames
