"""What the spaces share that give each context token a few numbers of its own, and map those to its width."""

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zip_ray.config.section import Count
from zip_ray.errors import InputError
from zip_ray.prompts.base import TextSpace
from zip_ray.prompts.fastfood import fastfood_matrix
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ModelShape
from zip_ray.protocol.random_keys import Stream, generator


class PerTokenOptions(ContextOptions):
    """What the spaces have in common that map each token's few numbers to its width."""

    intrinsic_dimension: Count = 500
    """q: each token gets floor(q / m) numbers."""
    projection: Literal["fastfood", "none"] = "fastfood"
    """Map of a token's numbers to its width; none = identity. With none, W is as wide as the context."""


class PerTokenSpace(TextSpace):
    """Context of token i: c_i = c0_i + F_i(W_i), with W of shape (m, p) a function of the parameters.

    F_i is one Fastfood map per token, kept as a matrix, with p = floor(intrinsic_dimension / m); or the identity, with
    p the width.
    """

    def __init__(self, options: PerTokenOptions, shape: ModelShape, seed: int) -> None:
        """Draw the projection from the seed.

        Args:
            options: intrinsic dimension and projection.
            shape: has c0.
            seed: keys every draw.

        Raises:
            InputError: the intrinsic dimension gives a token less than one number, or more than its width.
        """
        self.initial_context = shape.initial_context
        """c0, shape (m, width)."""
        self._tokens, width = shape.initial_context.shape
        self.projection = (
            None
            if options.projection == "none"
            else _projection(options.intrinsic_dimension, self._tokens, width, seed)
        )
        """Matrices of the maps F_i, shape (m, width, p); None for the identity."""
        self._size = width if self.projection is None else self.projection.shape[2]

    def context(self, w: Float64) -> Float32:
        """The context at `w`, shape (m, width); computed in float64 and rounded once.

        einsum without BLAS: its result does not depend on a thread count, so that every actor gets the same bits.
        """
        rows = self.rows(w)
        moved = rows if self.projection is None else np.einsum("mdp,mp->md", self.projection, rows)
        context: Float32 = (self.initial_context + moved).astype(np.float32)
        return context

    def pullback(self, w: Float64, gradient: Float64) -> Float64:
        """Gradient with respect to `w`, by the chain rule through F and W."""
        to_rows = gradient if self.projection is None else np.einsum("mdp,md->mp", self.projection, gradient)
        return self.pull_rows(w, to_rows)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """c0, and the projection where there is one."""
        drawn = {} if self.projection is None else {"projection": self.projection}
        return {"initial_context": self.initial_context, **drawn}

    @abstractmethod
    def rows(self, w: Float64) -> Float64:
        """W, shape (m, p)."""

    @abstractmethod
    def pull_rows(self, w: Float64, gradient: Float64) -> Float64:
        """Gradient with respect to `w`, shape (d,), from that with respect to W, shape (m, p)."""


def _projection(dim: int, tokens: int, width: int, seed: int) -> Float64:
    size = dim // tokens
    padded = 1 << (width - 1).bit_length()
    if not 1 <= size <= padded:
        raise InputError(
            f"prompt.intrinsic_dimension: {dim} gives each of {tokens} tokens {size} numbers: "
            f"choose between {tokens} and {tokens * padded}"
        )
    maps = [fastfood_matrix(generator(seed, Stream.PROJECTION, token), width, size) for token in range(tokens)]
    return np.stack(maps)
