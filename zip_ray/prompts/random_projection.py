"""A dense Gaussian map from a few numbers to the whole context (BBT: Sun et al., ICML 2022)."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zip_ray.config.section import Count
from zip_ray.prompts.base import TextSpace
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ModelShape
from zip_ray.protocol.random_keys import Stream, generator


def gaussian_map(rows: int, columns: int, std: float, seed: int) -> Float64:
    """A matrix of shape (rows, columns) with entries N(0, std^2 / columns): N(0, 1) in gives N(0, std^2) out."""
    matrix: Float64 = std / np.sqrt(columns) * generator(seed, Stream.PROJECTION).standard_normal((rows, columns))
    return matrix


class RandomProjectionOptions(ContextOptions):
    """BBT's space."""

    space: Literal["random-projection"] = "random-projection"
    """One Gaussian map of the parameters to the context (BBT)."""
    intrinsic_dimension: Count = 500
    """d, the number of parameters."""


class RandomProjectionSpace(TextSpace):
    """c = c0 + A w, with d = `intrinsic_dimension` parameters, 0 at the start.

    The entries of A are N(0, s^2 / d), s the standard deviation of the model's token embeddings: parameters of size
    sigma move each token by about sigma times the norm of a token embedding.
    """

    Options = RandomProjectionOptions

    def __init__(self, options: RandomProjectionOptions, shape: ModelShape, seed: int) -> None:
        """Draw the map from the seed.

        Args:
            options: intrinsic dimension.
            shape: has c0 and the scale of token embeddings.
            seed: keys every draw.
        """
        self.initial_context = shape.initial_context
        """c0, shape (m, width)."""
        self.projection = gaussian_map(self.initial_context.size, options.intrinsic_dimension, shape.token_std, seed)
        """A, shape (m width, d)."""

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""
        return self.projection.shape[1]

    def initial(self) -> Float64:
        """w = 0, so that the context is c0."""
        return np.zeros(self.dimension)

    def context(self, w: Float64) -> Float32:
        """The context at `w`, shape (m, width); einsum without BLAS, for the same bits on every actor."""
        moved = np.einsum("cd,d->c", self.projection, w).reshape(self.initial_context.shape)
        context: Float32 = (self.initial_context + moved).astype(np.float32)
        return context

    def pullback(self, w: Float64, gradient: Float64) -> Float64:  # noqa: ARG002 - the map is linear
        """A^T times the flat gradient."""
        pulled: Float64 = np.einsum("cd,c->d", self.projection, gradient.ravel())
        return pulled

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The map and c0."""
        return {"projection": self.projection, "initial_context": self.initial_context}
