"""The artifact: a tuned prompt with everything needed to classify, and no seed to replay."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zip_ray.artifact.kept_readout import ReadoutCard, readout_tensors
from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.prompts.initial_text import FILE_NAME
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Prompt, VisualKind, VisualPrompt
from zip_ray.protocol.readout import Readout

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zip_ray.artifact.classifier import Classifier

TUNED, READ_OUT, PLAIN_TEMPLATE = "tuned", "tuned + readout", "plain template"
"""Names of accuracies: of the tuned prompt alone, with its readout, and of the task's own template, which both are
compared with."""
FROZEN, VISUAL, READOUT = "frozen.", "visual.", "readout."
"""Prefixes of the tensors that the prompt space drew once, of those of a visual prompt, and of those of a readout."""


def deployed(accuracies: dict[str, float]) -> float:
    """The accuracy of the deployed classifier: the tuned prompt, with its readout if it has one; 0 without either."""
    return accuracies.get(READ_OUT, accuracies.get(TUNED, 0.0))


class AnswerCard(BaseModel):
    """How a generative model is asked: a sequence is `before`, context, question, answer."""

    model_config = ConfigDict(frozen=True)

    scoring: Literal["sum", "mean", "calibrated"]
    """What an answer's score is (see `model.scoring`)."""
    before: str
    """System text, and the image's place."""
    question: tuple[int, ...]
    """Token ids between the context and the answer; images that have questions of their own have others."""
    answers: tuple[tuple[int, ...], ...]
    """Token ids of the classes, in their order, the end token among them."""


class PromptCard(BaseModel):
    """The description of a tuned prompt: JSON in the file's header, and in a .json file beside it."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[2] = 2
    task: str
    classnames: tuple[str, ...]
    template: str
    suffix: str
    """Text after the class name; of a generative model the question behind the context."""
    visual: VisualKind | None = None
    """What is done to images; None if only the text was tuned."""
    encoder: str = ""
    """Frozen image encoder of a decoder."""
    scorer: str = "clip"
    """Name of the scorer; `clip` is a model of open_clip, `vlm` a generative one of transformers."""
    model: str = ""
    """Its name, as the config gives it."""
    pretrained: str | None = None
    weights_digest: str
    """SHA-256 of the weights (see `clip.loading.weights_digest`)."""
    preprocess: dict[str, Any] = {}
    """Preprocessing of images, as open_clip describes it."""
    logit_scale: float = 1.0
    answer: AnswerCard | None = None
    """How a generative model is asked; None for other models."""
    method: str
    seed: int
    prompt: dict[str, Any]
    """What was tuned: the section `prompt` of the config."""
    deployed: Literal["last", "best", "lowest-loss"]
    step: int
    """Step of the deployed iterate."""
    queries: int
    """Queries charged."""
    seconds: float
    accuracies: dict[str, float]
    """Share of images classified correctly, by name (`test/tuned`, `test/plain template`, `validation`, ...)."""
    readout: ReadoutCard | None = None
    """The correction of the class scores; None for the prompt alone."""


@dataclass(frozen=True)
class TunedPrompt:
    """A tuned prompt. `prompt` alone is needed to classify; the rest says how it was made."""

    card: PromptCard
    prompt: Prompt
    """Context, visual prompt, or both."""
    features: Float32
    """Text features of the card's classes, unit length, shape (classes, embed)."""
    parameters: Float64
    """w, shape (d,)."""
    frozen: dict[str, npt.NDArray[Any]]
    """What the prompt space drew once, by name: with it and `parameters` the prompt can be computed again."""
    readout: Readout | None = None
    """A map of the class scores, for the card's classes only; the card says what it was fitted to."""
    head: Float32 | None = None
    """The readout folded into class features, shape (classes, embed): scores are `images @ head.T + readout.bias`."""

    def __repr__(self) -> str:
        """Without its tensors, which fill many screens."""
        card, read_out = self.card, ", readout" if self.readout else ""
        return (
            f"TunedPrompt({card.task!r}, {len(card.classnames)} classes, {card.model!r}, {card.method!r}, "
            f"{card.queries} queries{read_out})"
        )

    def save(self, folder: Path) -> Path:
        """Write `tuned_prompt.safetensors` (self-contained) and, for people and scripts, its card as JSON beside it."""
        path = folder / FILE_NAME
        card = self.card.model_dump_json(indent=2)
        context, visual = self.prompt.context, self.prompt.visual
        tensors: dict[str, Any] = {
            "features": self.features,
            "parameters": self.parameters,
            **({} if context is None else {"context": context}),
            **{VISUAL + name: tensor for name, tensor in (visual.tensors if visual else {}).items()},
            **{FROZEN + name: tensor for name, tensor in self.frozen.items()},
            **{
                READOUT + name: tensor
                for name, tensor in (readout_tensors(self.readout) if self.readout else {}).items()
            },
            **({} if self.head is None else {"head": self.head}),
        }
        write_whole(path, save(tensors, metadata={"zip_ray": card}))
        write_whole(path.with_suffix(".json"), (card + "\n").encode())
        return path

    @staticmethod
    def load(path: str | Path) -> "TunedPrompt":
        """Read a tuned prompt, given its file or its folder.

        Raises:
            InputError: it is missing, damaged, or of a schema that this version does not read.
        """
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise InputError(
                f"{path}: no tuned prompt: give a tuned_prompt.safetensors, or the folder of a run that has ended"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                card = PromptCard.model_validate(json.loads((file.metadata() or {})["zip_ray"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            frozen, parts, kept = (_pop(tensors, prefix) for prefix in (FROZEN, VISUAL, READOUT))
            readout = card.readout.readout(kept) if card.readout else None
            visual = VisualPrompt(card.visual, parts, card.encoder) if card.visual else None
            prompt = Prompt(tensors.pop("context", None), visual, card.suffix)
            return TunedPrompt(card, prompt, **tensors, frozen=frozen, readout=readout)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: not a tuned prompt that this version reads ({reason}): tune it again") from error

    def classes(self, classnames: Sequence[str] | None = None) -> tuple[str, ...]:
        """The classes to choose from; the prompt's own if None.

        Raises:
            InputError: a string in place of a list of them, or an empty list.
        """
        if isinstance(classnames, str):
            raise InputError(f"classnames: '{classnames}' is one string: give a list of class names")
        names = self.card.classnames if classnames is None else tuple(classnames)
        if not names:
            raise InputError("classnames: none are given: give at least one, or leave them out for the prompt's own")
        return names

    def classifier(self, classnames: Sequence[str] | None = None) -> "Classifier":
        """What classifies images; loads the prompt's model.

        Args:
            classnames: classes to choose from; the prompt's own if None.

        Raises:
            InputError: the model cannot be loaded, or the classes cannot be used.
        """
        from zip_ray.artifact.classifier import classifier_of

        return classifier_of(self, classnames)

    def export(self, file: str | Path) -> None:
        """Write a linear classifier of image features, its readout folded in (see `artifact.class_weights`).

        Args:
            file: .safetensors or .npz.

        Raises:
            InputError: the prompt is no such classifier, or the file is of another kind.
            OutputError: the file cannot be written.
        """
        from zip_ray.artifact.class_weights import write_class_weights

        write_class_weights(self, Path(file))

    def read_out(self, classnames: Sequence[str] | None = None) -> tuple[Float32, Float32] | None:
        """Head, shape (classes, embed), and bias, shape (classes,): an image's scores are `features @ head.T + bias`.

        Args:
            classnames: the classes; the prompt's own if None.

        Returns:
            None where there is no readout, or where the classes are others than those it was fitted to (in any order):
            then a warning says that only the prompt is used.
        """
        names = self.classes(classnames)
        if self.head is None or not self.has_readout_for(names):
            return None
        assert self.readout is not None
        order = [self.card.classnames.index(name) for name in names]
        return self.head[order], self.readout.bias[order]

    def has_readout_for(self, names: Sequence[str]) -> bool:
        """Whether the readout is used for these classes: for other classes, in any order, there is a warning."""
        known = self.readout is not None and sorted(names) == sorted(self.card.classnames)
        if self.readout is not None and not known:
            warnings.warn(
                "the readout was fitted to other classes than these: only the prompt is used",
                stacklevel=4,
            )
        return known

    def text_features(self, model: "nn.Module", tokenizer: Any, classnames: Sequence[str] | None = None) -> "Tensor":
        """Unit-length text features, shape (classes, embed), on the model's device.

        If only images were tuned, the texts are the card's template.

        Args:
            model: an open_clip model: the one the prompt was tuned on.
            tokenizer: its tokenizer (`open_clip.get_tokenizer`).
            classnames: the classes; the prompt's own if None.

        Raises:
            InputError: the model has another width, a prompt is too long for it, or the classes cannot be used.
        """
        import torch

        from zip_ray.clip.loading import weights_digest
        from zip_ray.clip.plain_text import PromptEncoder, encode_texts

        if weights_digest(model.state_dict()) != self.card.weights_digest:
            warnings.warn(
                f"the prompt was tuned on other weights ({self.card.model}) than this model's: accuracy may be lower",
                stacklevel=2,
            )
        names, context, training = self.classes(classnames), self.prompt.context, model.training
        model.eval()
        try:
            if context is None:
                found = encode_texts(model, tokenizer, [self.card.template.replace("{}", name) for name in names])
            else:
                encoder = PromptEncoder(model, tokenizer, names, len(context), self.card.suffix)
                found = encoder.encode(torch.from_numpy(np.array(context)).unsqueeze(0))[0]
        finally:
            model.train(training)
        return found.clone()  # autograd does not take a tensor made in inference mode


def _pop(tensors: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Remove the tensors with that prefix, and return them by their names without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
