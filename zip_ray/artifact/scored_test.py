"""Class scores of test images, and the results computed from them."""

from dataclasses import dataclass, field

import numpy as np

from zip_ray.artifact.tuned_prompt import READ_OUT, TUNED
from zip_ray.protocol.arrays import Float32, Int64
from zip_ray.tasks import Task
from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.readable import Place, places


@dataclass(frozen=True)
class ScoredTest:
    """Class scores of test images."""

    classnames: tuple[str, ...]
    """Empty where each image has answers of its own."""
    labels: Int64 = field(repr=False)
    """Shape (n,)."""
    images: tuple[Place, ...] = field(repr=False)
    """Path of each image, or its place in its data set."""
    scores: dict[str, Float32] = field(repr=False)
    """Logits, shape (n, classes), by name: of the plain template, of the tuned prompt, with its readout if used."""
    notes: tuple[str, ...] = ()
    """Remarks on the task's images and classes, one line each."""

    @property
    def accuracies(self) -> dict[str, float]:
        """Share of the images classified correctly, by name."""
        return {name: float(np.mean(made.argmax(axis=1) == self.labels)) for name, made in self.scores.items()}

    @property
    def confusion(self) -> Int64:
        """Images counted by true class and by the deployed classifier's class, shape (classes, classes)."""
        classes = len(self.classnames)
        pairs = self.labels * classes + self.deployed.argmax(axis=1)
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def top(self, count: int) -> float:
        """Share of the images whose class is among that many with the highest scores of the deployed classifier."""
        best = np.argsort(-self.deployed, axis=1, kind="stable")[:, :count]
        return float(np.mean((best == self.labels[:, None]).any(axis=1)))

    @property
    def deployed(self) -> Float32:
        """Logits the tuned prompt classifies with, shape (n, classes)."""
        return self.scores.get(READ_OUT, self.scores[TUNED])


def scored(scores: dict[str, Float32], data: Task) -> ScoredTest:
    """Class scores by name, with the labels and names of the test images."""
    own_options = isinstance(data.test, QuestionImages) and any(one.options for one in data.test.asked)
    classnames = () if own_options else data.classnames
    return ScoredTest(classnames, data.test.labels, tuple(places(data.test)), scores, data.notes)
