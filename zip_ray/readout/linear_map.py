"""Linear maps of the scores of several prompts: readouts of different prompts in one form, to be mixed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.readout import Readout, centred


@dataclass(frozen=True)
class LinearMap:
    """sum_p centred(L_p) M_p + b, over the scores L_p of the prompts p."""

    matrices: Float64
    """M, shape (prompts, classes, classes)."""
    bias: Float64
    """b, shape (classes,)."""

    @staticmethod
    def alone(place: int, prompts: int, classes: int) -> "LinearMap":
        """The scores of one of the prompts, as they are."""
        matrices = np.zeros((prompts, classes, classes))
        matrices[place] = np.eye(classes)
        return LinearMap(matrices, np.zeros(classes))

    @staticmethod
    def of_readout(readout: Readout, place: int, prompts: int) -> "LinearMap":
        """A readout of the prompt at a place, whose further prompts are those behind it."""
        classes = len(readout.bias)
        found = LinearMap.alone(place, prompts, classes)
        weights = readout.weights.astype(np.float64).reshape(-1, classes, classes) / readout.scale
        found.matrices[place : place + len(weights)] += weights
        return LinearMap(found.matrices, readout.bias.astype(np.float64))

    def mean_with(self, other: "LinearMap") -> "LinearMap":
        """The average of the two maps."""
        return LinearMap((self.matrices + other.matrices) / 2, (self.bias + other.bias) / 2)

    def of(self, scores: Sequence[Float32]) -> Float64:
        """The corrected scores, shape (n, classes), from the prompts' scores, each (n, classes)."""
        made: Float64 = sum((centred(one) @ m for one, m in zip(scores, self.matrices, strict=True)), self.bias)
        return made

    def readout(self, further: Sequence[Prompt | str]) -> Readout:
        """The same as a readout of the first prompt: equal scores up to a constant per image, equal probabilities.

        Args:
            further: the other prompts; those that the map does not look at are left out.
        """
        own = self.matrices[:1] - np.eye(len(self.bias))
        used = [place for place, m in enumerate(self.matrices[1:], start=1) if m.any()]
        weights = np.concatenate([own, self.matrices[used]]).reshape(-1, len(self.bias))
        prompts = tuple(further[place - 1] for place in used)
        return Readout(prompts, weights.astype(np.float32), self.bias.astype(np.float32), 1.0)
