"""A tuned prompt on the test images of a task: its class scores, and those of the task's plain template."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from zip_ray.artifact.classifier import folded_scores, load_model
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, TunedPrompt
from zip_ray.clip.image_features import split_features
from zip_ray.clip.plain_text import encode_texts
from zip_ray.clip.prompted_images import prompted_features
from zip_ray.config.task import TaskConfig
from zip_ray.protocol.arrays import Float32, Int64
from zip_ray.tasks import load_task
from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.images import each_image
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
        """Images by true class and by the class of what is deployed, shape (classes, classes)."""
        classes = len(self.classnames)
        pairs = self.labels * classes + self.deployed.argmax(axis=1)
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def top(self, count: int) -> float:
        """Share of the images whose class is among so many with the highest scores of what is deployed."""
        best = np.argsort(-self.deployed, axis=1, kind="stable")[:, :count]
        return float(np.mean((best == self.labels[:, None]).any(axis=1)))

    @property
    def deployed(self) -> Float32:
        """Logits of what the tuned prompt classifies with, shape (n, classes)."""
        return self.scores.get(READ_OUT, self.scores[TUNED])


@torch.no_grad()
def score_test(prompt: TunedPrompt, task: TaskConfig, seed: int) -> ScoredTest:
    """A tuned prompt on any task: its own or another.

    The readout is used if the prompt has one and it was fitted to these classes; for other classes a warning says so.
    If only images were tuned, the texts are the task's plain template, as in tuning.

    Raises:
        InputError: the task or the prompt's model cannot be used.
    """
    data = load_task(task, seed)
    if prompt.card.scorer == "vlm":
        from zip_ray.artifact.answer_classifier import answer_scores

        answers = answer_scores(prompt, data, task.question)
        own_options = isinstance(data.test, QuestionImages) and any(one.options for one in data.test.asked)
        classnames = () if own_options else data.classnames
        return ScoredTest(classnames, data.test.labels, tuple(places(data.test)), answers, data.notes)
    clip = load_model(prompt)
    images = split_features(clip, data.test)
    visual = prompt.prompt.visual
    prompted = images if visual is None else prompted_features(clip, each_image(data.test), visual)
    plain = encode_texts(clip.model, clip.tokenizer, [data.template.replace("{}", name) for name in data.classnames])
    is_text = prompt.prompt.context is not None
    tuned = prompt.text_features(clip.model, clip.tokenizer, data.classnames) if is_text else plain
    scale = prompt.card.logit_scale
    scores: dict[str, Tensor] = {PLAIN_TEMPLATE: scale * images @ plain.T, TUNED: scale * prompted @ tuned.T}
    read_out = prompt.read_out(data.classnames)
    if read_out is not None:
        scores[READ_OUT] = folded_scores(prompted, read_out)
    made = {name: one.float().cpu().numpy() for name, one in scores.items()}
    return ScoredTest(data.classnames, data.test.labels, tuple(places(data.test)), made, data.notes)
