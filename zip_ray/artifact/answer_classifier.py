"""A tuned prompt of a generative model in use: a class is the answer with the highest score."""

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax

from zip_ray.artifact.classifier import Classifier
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, TunedPrompt
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.readout import apply
from zip_ray.tasks import Task
from zip_ray.vlm.answering import Answering, scores_on
from zip_ray.vlm.frozen_vlm import load_vlm
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.questions import templates_of


class AnswerClassifier(Classifier):
    """A classifier that uses a generative model of transformers."""

    def __init__(self, prompt: TunedPrompt, classnames: Sequence[str] | None = None) -> None:
        """Load the model, on the GPU where there is one; arguments and errors as of `classifier_of`."""
        self.classnames = prompt.classes(classnames)
        self._prompt, self._answering = prompt, _load(prompt)
        self._corrected = prompt.has_readout_for(self.classnames)

    def _probabilities(self, opened: list[Image.Image]) -> list[list[float]]:
        own, names = self._prompt.card.classnames, self.classnames
        asked = prompts_of(self._prompt) if self._corrected else [self._prompt.prompt]
        images = [partial(_itself, image) for image in opened]
        scores = self._answering.scores(asked, "", own if self._corrected else names, images, images)
        if not self._corrected:
            return _probabilities(scores[0])
        return _probabilities(_read_out(self._prompt, scores)[:, [own.index(name) for name in names]])


def answer_scores(prompt: TunedPrompt, task: Task, question: str | None) -> dict[str, Float32]:
    """Scores of the test images, shape (images, classes), by name.

    They are of the task's plain question, and of a tuned prompt alone and with its readout if it has one.

    Raises:
        InputError: the prompt's model cannot be used, or the task's images or answers.
    """
    answering = _load(prompt)
    plain = templates_of(task, question)[0]
    corrected = prompt.has_readout_for(task.classnames) and task.classnames == prompt.card.classnames
    asked = [plain, *(prompts_of(prompt) if corrected else [prompt.prompt])]
    scores = scores_on(answering, asked, task.test, task.classnames)

    found = {PLAIN_TEMPLATE: scores[0], TUNED: scores[1]}
    if corrected:
        found[READ_OUT] = _read_out(prompt, scores[1:])
    return {name: one.astype(np.float32) for name, one in found.items()}


def prompts_of(prompt: TunedPrompt) -> list[Prompt | str]:
    """The prompts whose scores a readout takes: the prompt itself, then the further ones."""
    return [prompt.prompt, *(prompt.readout.prompts if prompt.readout is not None else ())]


def _read_out(prompt: TunedPrompt, scores: Float64) -> Float64:
    """What the readout makes of the scores of `prompts_of`, shape (prompts, images, classes)."""
    assert prompt.readout is not None
    return apply(prompt.readout, list(scores))


def _probabilities(scores: Float64) -> list[list[float]]:
    found: list[list[float]] = softmax(scores, axis=1).tolist()
    return found


def _itself(image: Image.Image) -> Image.Image:
    return image


def _load(prompt: TunedPrompt) -> Answering:
    """The prompt's model.

    Raises:
        InputError: it cannot be loaded.
    """
    assert prompt.card.answer is not None
    vlm = load_vlm(prompt.card.model, "cuda" if torch.cuda.is_available() else "cpu")
    if vlm.weights_digest != prompt.card.weights_digest:
        warnings.warn(
            f"the prompt was tuned on other weights ({prompt.card.model}) than this model's: expect lower accuracy",
            stacklevel=3,
        )
    return Answering(vlm, prompt.card.answer.scoring, PrefixStore(vlm.device, 0))
