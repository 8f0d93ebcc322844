"""ZIP's low-rank prompt space (Park et al., ICLR 2025, section 4 and the released code)."""

from typing import Literal, NamedTuple

import numpy as np

from zip_ray.config.section import Count
from zip_ray.prompts.per_token import PerTokenOptions, PerTokenSpace
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ModelShape
from zip_ray.protocol.random_keys import Stream, generator

INIT_STD = 0.02


class LowRankOptions(PerTokenOptions):
    """ZIP's low-rank space; the defaults are the published ones."""

    space: Literal["low-rank"] = "low-rank"
    """ZIP's: W = U diag(s) V^T + 1 v^T. Each token's row of W goes through a map of its own."""
    rank: Count = 5
    """r: rank of the factors U and V."""
    diagonal: bool = True
    """Whether diag(s) is learnt; it is 1 otherwise."""
    shared_feature: bool = True
    """Whether there is a feature v that all tokens share."""


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


class LowRankSpace(PerTokenSpace):
    """W = U diag(s) V^T + 1 v^T.

    The flat order of the parameters is U, s, V, v, each row-major: d = m r + r + p r + p numbers. Without the diagonal
    s is 1, without the shared feature v is 0, and neither is among them.
    """

    Options = LowRankOptions

    def __init__(self, options: LowRankOptions, shape: ModelShape, seed: int) -> None:
        """As `PerTokenSpace`; the options give rank, diagonal and shared feature too."""
        super().__init__(options, shape, seed)
        self._seed, self._rank = seed, options.rank
        m, r, p = self._tokens, options.rank, self._size
        self._counts = (m * r, r * options.diagonal, p * r, p * options.shared_feature)

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""
        return sum(self._counts)

    def initial(self) -> Float64:
        """The initial parameters, shape (d,): U = 0, s = 1, V ~ N(0, 1), v = 0, so that the context is c0."""
        v = generator(self._seed, Stream.PARAMETERS).standard_normal((self._size, self._rank))
        u, s, _, shared = self._counts
        return np.concatenate([np.zeros(u), np.ones(s), v.ravel(), np.zeros(shared)])

    def factors(self, w: Float64) -> Factors:
        """Views of the parameters as matrices."""
        u, s, v, shared = np.split(w, np.cumsum(self._counts[:-1]))
        return Factors(
            u.reshape(self._tokens, self._rank),
            s if s.size else np.ones(self._rank),
            v.reshape(self._size, self._rank),
            shared if shared.size else np.zeros(self._size),
        )

    def rows(self, w: Float64) -> Float64:
        """W, shape (m, p)."""
        f = self.factors(w)
        rows: Float64 = np.einsum("mr,r,pr->mp", f.u, f.s, f.v) + f.shared
        return rows

    def pull_rows(self, w: Float64, gradient: Float64) -> Float64:
        """Gradient with respect to the factors that are parameters."""
        f = self.factors(w)
        parts = (
            np.einsum("mp,r,pr->mr", gradient, f.s, f.v),
            np.einsum("mp,mr,pr->r", gradient, f.u, f.v),
            np.einsum("mp,mr,r->pr", gradient, f.u, f.s),
            gradient.sum(axis=0),
        )
        return np.concatenate([part.ravel() for part, count in zip(parts, self._counts, strict=True) if count])
