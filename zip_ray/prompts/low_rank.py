"""ZIP's low-rank prompt space (Park et al., ICLR 2025, section 4 and the released code)."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zip_ray.config import PromptConfig
from zip_ray.errors import InputError
from zip_ray.keys import Stream, generator
from zip_ray.prompts.base import TextSpace
from zip_ray.prompts.fastfood import fastfood_matrix
from zip_ray.work import Float32, Float64, ModelShape

INIT_STD = 0.02


class Factors(NamedTuple):
    """The parameters, taken apart."""

    u: Float64
    """U, shape (m, r)."""
    s: Float64
    """Diagonal, shape (r,)."""
    v: Float64
    """V, shape (p, r)."""
    shared: Float64
    """Feature shared by all tokens, shape (p,)."""


def random_context(tokens: int, width: int, seed: int) -> Float32:
    """The published initial context: entries N(0, 0.02^2), shape (tokens, width)."""
    draw = generator(seed, Stream.CONTEXT).standard_normal((tokens, width))
    return (INIT_STD * draw).astype(np.float32)


class LowRankSpace(TextSpace):
    """Context of token i: c_i = c0_i + F_i(W_i), with W = U diag(s) V^T + 1 v^T of shape (m, p).

    F_i is one Fastfood map a token, kept as a matrix; p = floor(intrinsic_dim / m).
    The flat order of the parameters is U, s, V, v, each row-major: d = m r + r + p r + p numbers.
    """

    def __init__(self, config: PromptConfig, shape: ModelShape, seed: int) -> None:
        """Draw the projection and the initial factors from the seed.

        Args:
            config: intrinsic dimension and rank.
            shape: has c0.
            seed: keys every draw.

        Raises:
            InputError: the intrinsic dimension leaves a token less than one number or more than its width holds.
        """
        self.initial_context = shape.initial_context
        """c0, shape (m, width)."""
        tokens, width = self.initial_context.shape
        size = config.intrinsic_dim // tokens
        padded = 1 << (width - 1).bit_length()
        if not 1 <= size <= padded:
            raise InputError(
                f"prompt.intrinsic_dim: {config.intrinsic_dim} gives each of {tokens} tokens {size} numbers: "
                f"choose between {tokens} and {tokens * padded}"
            )
        self.projection = np.stack(
            [fastfood_matrix(generator(seed, Stream.PROJECTION, token), width, size) for token in range(tokens)]
        )
        """Matrices of the maps F_i, shape (m, width, p)."""
        self._seed = seed
        self._rank = config.rank
        self._tokens, self._size = tokens, size

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""
        return self._rank * (self._tokens + 1 + self._size) + self._size

    def initial(self) -> Float64:
        """The initial parameters, shape (d,): U = 0, s = 1, V ~ N(0, 1), v = 0, so that the context is c0."""
        v = generator(self._seed, Stream.PARAMETERS).standard_normal((self._size, self._rank))
        return np.concatenate(
            [np.zeros(self._tokens * self._rank), np.ones(self._rank), v.ravel(), np.zeros(self._size)]
        )

    def factors(self, w: Float64) -> Factors:
        """Views of the parameters as matrices."""
        ends = np.cumsum([self._tokens * self._rank, self._rank, self._size * self._rank])
        u, s, v, shared = np.split(w, ends)
        return Factors(u.reshape(self._tokens, self._rank), s, v.reshape(self._size, self._rank), shared)

    def context(self, w: Float64) -> Float32:
        """The context at `w`, shape (m, width); computed in float64 and rounded once.

        einsum without BLAS: its result does not depend on a thread count, so that every actor gets the same bits.
        """
        f = self.factors(w)
        low_rank = np.einsum("mr,r,pr->mp", f.u, f.s, f.v) + f.shared
        moved = np.einsum("mdp,mp->md", self.projection, low_rank)
        context: Float32 = (self.initial_context + moved).astype(np.float32)
        return context

    def pullback(self, w: Float64, gradient: Float64) -> Float64:
        """Gradient with respect to `w`, by the chain rule through F and W."""
        f = self.factors(w)
        to_w = np.einsum("mdp,md->mp", self.projection, gradient)
        parts = (
            np.einsum("mp,r,pr->mr", to_w, f.s, f.v),
            np.einsum("mp,mr,pr->r", to_w, f.u, f.v),
            np.einsum("mp,mr,r->pr", to_w, f.u, f.s),
            to_w.sum(axis=0),
        )
        return np.concatenate([part.ravel() for part in parts])

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The projection and c0."""
        return {"projection": self.projection, "initial_context": self.initial_context}
