"""The number of candidates: fewer for many classes and images, so that a fit stays within a minute and a gigabyte."""

from dataclasses import dataclass, replace

import numpy as np

PENALTIES = (0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5)
FEW_CLASSES = 10
"""With more classes penalties are smaller in proportion: a class has a smaller share of the images, and of the loss."""
MOST_COLUMNS = 2000
"""Maximum of scores per image, over all prompts; further prompts are not used."""
WORK = 1.5e11
"""Multiplications and additions that a fit may take, about: half a minute of one core."""
TYPICAL_ITERATIONS = 20
PER_SCORE = 60
"""What softmax takes for one score, in multiplications."""


@dataclass(frozen=True)
class Effort:
    """What is tried."""

    shrinkages: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    """Shrinkages of the covariance within the classes, for the scores of all prompts."""
    powers: tuple[float, ...] = (0.75, 0.5, 0.25)
    """Powers of their standard deviations, where the spectrum is flattened."""
    half_shrinkages: tuple[float, ...] = (0.3, 0.1)
    """Shrinkages of the covariance of scores flattened with power 0.5."""
    unwhitened: bool = True
    """Whether the scores as they are and those of all prompts are tried too, beside the whitened ones."""
    penalties: tuple[float, ...] = PENALTIES
    """With few classes; from the largest on."""
    folds: int = 5
    held_out: int = 5
    """How many of the folds are held out, in turn."""
    components: int = 1024
    """Principal components at most."""
    iterations: int = 60
    dtype: type[np.floating] = np.float64

    def strengths(self, classes: int) -> tuple[float, ...]:
        """The penalties for this number of classes."""
        return tuple(penalty * min(1.0, FEW_CLASSES / classes) for penalty in self.penalties)

    def work(self, images: int, components: int, classes: int) -> float:
        """About how many multiplications and additions a fit takes."""
        learners = len((*self.shrinkages, *self.powers, *self.half_shrinkages)) + 2 * self.unwhitened
        fits = learners * len(self.penalties) * self.held_out
        gradient = images * classes * (4 * min(components, self.components) + PER_SCORE)
        return fits * min(self.iterations, TYPICAL_ITERATIONS) * gradient / (1 + (self.dtype is np.float32))


FULL = Effort()
SINGLE = replace(FULL, dtype=np.float32)
EFFORTS = (
    FULL,
    SINGLE,
    replace(
        SINGLE, shrinkages=(0.03, 0.003), powers=(0.5,), half_shrinkages=(), penalties=PENALTIES[2:], iterations=30
    ),
    replace(
        SINGLE,
        shrinkages=(0.01,),
        powers=(),
        half_shrinkages=(),
        penalties=PENALTIES[2:],
        held_out=2,
        components=512,
        iterations=30,
    ),
    replace(
        SINGLE,
        shrinkages=(0.01,),
        powers=(),
        half_shrinkages=(),
        unwhitened=False,
        penalties=(0.003, 3e-4, 3e-5),
        held_out=1,
        components=512,
        iterations=15,
    ),
)


def choose_effort(images: int, components: int, classes: int) -> Effort:
    """The first that is quick enough, or the last."""
    return next((one for one in EFFORTS if one.work(images, components, classes) <= WORK), EFFORTS[-1])
