"""The interface of every prompt space."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from zip_ray.prompts.options import SpaceOptions
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ModelShape, Prompt
from zip_ray.protocol.random_keys import Stream, generator


def step_unit(space: "PromptSpace", shape: ModelShape) -> float:
    """Length per parameter of a step in a random direction that changes a prompt by about its own scale.

    In a context that scale is the standard deviation of the model's token embeddings: the step is measured, from the
    initial parameters. A visual prompt has the scale of its initial parameters, or 1 where they are 0.
    """
    w = space.initial()
    if not isinstance(space, TextSpace):
        return float(np.sqrt(np.mean(w**2))) or 1.0
    z = generator(0, Stream.DIRECTION, 0).standard_normal(w.size)
    moved = space.context(w + z).astype(np.float64) - space.context(w)
    return shape.token_std / float(np.sqrt(np.mean(moved**2)))


class PromptSpace(Protocol):
    """A map from parameters of shape (d,) to a prompt; made from its options, the model's shape and a seed."""

    Options: ClassVar[type[SpaceOptions]]
    """Its section of the config."""

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""

    def initial(self) -> Float64:
        """The initial parameters, shape (d,)."""

    def prompt(self, w: Float64) -> Prompt:
        """The prompt at parameters `w`."""

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Tensors drawn at random or taken from the model once, by name; a tuned prompt contains them."""


class TextSpace(ABC):
    """A `PromptSpace` of contexts alone."""

    Options: ClassVar[type[SpaceOptions]]

    @property
    @abstractmethod
    def dimension(self) -> int:
        """d, the number of parameters."""

    @abstractmethod
    def initial(self) -> Float64:
        """The initial parameters, shape (d,)."""

    def prompt(self, w: Float64) -> Prompt:
        """The context at `w`."""
        return Prompt(self.context(w))

    @abstractmethod
    def context(self, w: Float64) -> Float32:
        """The context at `w`, shape (m, width); computed in float64 and rounded once."""

    @abstractmethod
    def pullback(self, w: Float64, gradient: Float64) -> Float64:
        """Gradient with respect to `w`, shape (d,), from that with respect to the context, shape (m, width)."""

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Tensors drawn at random or taken from the model once, by name; a tuned prompt contains them."""
