"""A readout in the file of a tuned prompt: numbers and contexts are tensors, sentences are in the card."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.readout import Readout


class FurtherPrompt(BaseModel):
    """A further prompt whose scores are inputs of the readout."""

    model_config = ConfigDict(frozen=True)

    sentence: str | None
    """With {} for the class name; None for a context, which is a tensor of the file."""
    suffix: str | None = None
    """Text after the class name, behind a context."""


class ReadoutCard(BaseModel):
    """The description of a readout."""

    model_config = ConfigDict(frozen=True)

    kind: str
    """`bias`, `linear` or `auto`."""
    images: int
    """Training images that it was fitted to."""
    queries: int
    """Queries charged for their scores."""
    prompts: tuple[FurtherPrompt, ...] = ()
    """Further prompts, in the order of the map's rows."""

    @staticmethod
    def of(readout: Readout, kind: str, images: int, queries: int) -> "ReadoutCard":
        """The card of a readout.

        Raises:
            ValueError: a further prompt changes images.
        """
        prompts = tuple(map(_described, readout.prompts))
        return ReadoutCard(kind=kind, images=images, queries=queries, prompts=prompts)

    def readout(self, tensors: dict[str, npt.NDArray[Any]]) -> Readout:
        """The readout stored in these tensors.

        Raises:
            KeyError: one is missing.
        """
        prompts = tuple(
            Prompt(tensors[f"context.{index}"], suffix=one.suffix) if one.sentence is None else one.sentence
            for index, one in enumerate(self.prompts)
        )
        return Readout(prompts, tensors["weights"], tensors["bias"], float(tensors["scale"]))


def readout_tensors(readout: Readout) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a readout, by name."""
    contexts = {
        f"context.{index}": one.context
        for index, one in enumerate(readout.prompts)
        if isinstance(one, Prompt) and one.context is not None
    }
    return {
        "weights": readout.weights,
        "bias": readout.bias,
        "scale": np.array(readout.scale),
        **contexts,
    }


def _described(prompt: Prompt | str) -> FurtherPrompt:
    if isinstance(prompt, str):
        return FurtherPrompt(sentence=prompt)
    if prompt.visual is not None or prompt.context is None:
        raise ValueError("a further prompt of a readout is a sentence or a context")
    return FurtherPrompt(sentence=None, suffix=prompt.suffix)
