"""The whole context as parameters (CoOp: Zhou et al., IJCV 2022)."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zip_ray.prompts.base import TextSpace
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ModelShape


class WholeContextOptions(ContextOptions):
    """The whole context (CoOp)."""

    space: Literal["context"] = "context"
    """The context itself (CoOp)."""


class ContextSpace(TextSpace):
    """The parameters are the context itself, row-major: d = m width numbers, c0 at the start."""

    Options = WholeContextOptions

    def __init__(self, options: WholeContextOptions, shape: ModelShape, seed: int) -> None:  # noqa: ARG002 - nothing is drawn
        """Take c0 from the shape."""
        self._initial = shape.initial_context

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""
        return self._initial.size

    def initial(self) -> Float64:
        """c0, flat."""
        return self._initial.astype(np.float64).ravel()

    def context(self, w: Float64) -> Float32:
        """The context at `w`, shape (m, width), rounded."""
        return w.reshape(self._initial.shape).astype(np.float32)

    def pullback(self, w: Float64, gradient: Float64) -> Float64:  # noqa: ARG002 - the map is linear
        """The gradient itself, flat."""
        return gradient.ravel()

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Empty: nothing is drawn."""
        return {}
