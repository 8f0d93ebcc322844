"""ZIP's space without the low rank: W itself instead of its factors."""

from typing import Literal

import numpy as np

from zip_ray.prompts.per_token import PerTokenOptions, PerTokenSpace
from zip_ray.protocol.arrays import Float64


class FullOptions(PerTokenOptions):
    """ZIP's space without the low rank."""

    space: Literal["full"] = "full"
    """W itself, each token's row through a map of its own."""


class FullSpace(PerTokenSpace):
    """The parameters are W itself, row-major: d = m p numbers, 0 at the start."""

    Options = FullOptions

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""
        return self._tokens * self._size

    def initial(self) -> Float64:
        """W = 0, so that the context is c0."""
        return np.zeros(self.dimension)

    def rows(self, w: Float64) -> Float64:
        """W, shape (m, p)."""
        return w.reshape(self._tokens, self._size)

    def pull_rows(self, w: Float64, gradient: Float64) -> Float64:  # noqa: ARG002 - the map is linear
        """The gradient itself, flat."""
        return gradient.ravel()
