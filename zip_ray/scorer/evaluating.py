"""Evaluations: loss, accuracy and class scores of a prompt on a split, with a readout where there is one."""

import numpy as np
import torch
from torch import Tensor

from zip_ray.clip.class_texts import Texts
from zip_ray.clip.cuda_graph import to_device
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.messages import Encoding, EncodingResult, Evaluation, EvaluationResult
from zip_ray.protocol.readout import Readout, apply, fold
from zip_ray.scorer.image_side import ImageSide
from zip_ray.scorer.logits import judge, logits
from zip_ray.scorer.starts import Starts


class Evaluator:
    """Evaluates prompts as they are deployed, on images as at test time."""

    def __init__(self, scale: float, texts: Texts, images: ImageSide, starts: Starts) -> None:
        """The model's sides; `scale` is the factor of the cosine."""
        self._scale, self._texts, self._images, self._starts = scale, texts, images, starts

    @torch.inference_mode()
    def evaluate(self, evaluation: Evaluation) -> EvaluationResult:
        """Loss and accuracy on a split, and the scores if they are wanted.

        Raises:
            InputError: a text is too long, an image cannot be read, or a start cannot be used.
        """
        given = evaluation.prompt
        prompt = self._deployed(given, evaluation.start) if isinstance(given, np.ndarray) else given
        found, labels = self._logits(evaluation, prompt)
        if evaluation.readout is not None:
            found = self._read_out(evaluation, evaluation.readout, found)
        (loss,), (accuracy,) = judge(found, labels, "cross-entropy").tolist()
        scores = found[0].float().cpu().numpy() if evaluation.scores else None
        return EvaluationResult(loss, accuracy, len(labels), scores)

    def encode(self, encoding: Encoding) -> EncodingResult:
        """The prompt as it is deployed, its text features, and its readout folded into them.

        Raises:
            InputError: as `evaluate` does.
            ValueError: a readout of several prompts of which one changes images, which cannot be folded.
        """
        prompt = self._deployed(encoding.w, encoding.start)
        features, readout = self._text_features(prompt), encoding.readout
        if readout is None:
            return EncodingResult(prompt, features)
        further = readout.prompts
        if further and any(isinstance(one, Prompt) and one.visual is not None for one in (prompt, *further)):
            raise ValueError("under a visual prompt a readout takes only the prompt's own scores")
        every = [features, *map(self._text_features, further)]
        return EncodingResult(prompt, features, fold(readout, every, self._scale))

    def _text_features(self, prompt: Prompt | str) -> Float32:
        found: Float32 = self._texts.encode([prompt])[0].cpu().numpy()
        return found

    def _deployed(self, w: Float64, start: str | None) -> Prompt:
        return self._images.deployed(self._starts.prompt(w, start))

    def _logits(self, evaluation: Evaluation, prompt: Prompt | str) -> tuple[Tensor, Tensor]:
        """Logits (1, images, classes) of a prompt or sentence, and labels (images,)."""
        visual = prompt.visual if isinstance(prompt, Prompt) else None
        features, labels = self._images.tested(evaluation.split, evaluation.part, visual)
        return logits(self._scale, features, self._texts.encode([prompt])), labels

    def _read_out(self, evaluation: Evaluation, readout: Readout, found: Tensor) -> Tensor:
        """What a readout makes of the logits of the prompt, and of its own further prompts."""
        further = [self._logits(evaluation, prompt)[0] for prompt in readout.prompts]
        made = apply(readout, [one[0].cpu().numpy() for one in (found, *further)])
        return to_device(torch.from_numpy(made), found.device).unsqueeze(0)
