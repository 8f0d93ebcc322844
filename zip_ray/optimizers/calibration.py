"""The gains of SPSA from the first pairs of a run.

Spall (IEEE Trans. Aerospace and Electronic Systems 34, 1998) chooses c by the noise of the measured loss, and a so that
the first updates have a desired size. Here the noise is what rounding and curvature make of a difference quotient: a
ladder of scales along the same directions shows it. The desired size is that of a perturbation.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from zip_ray.protocol.arrays import Float64

SCALES = tuple(float(scale) for scale in 0.001 * 10 ** (np.arange(8) / 2))
"""Perturbation scales that are tried, from 0.001 to about 3."""
DIRECTIONS = 5
"""Directions along which each is tried."""
PAIRS = len(SCALES) * DIRECTIONS
"""Pairs that a calibration takes."""
DISAGREEMENT = 0.5
"""Change of the difference quotients, relative to their root mean square, up to which a larger scale is still taken."""


class Trial(NamedTuple):
    """One pair of the ladder."""

    scale: float
    direction: float
    """Number of its direction."""
    quotient: float
    """(L(w + c z) - L(w - c z)) / (2 c)."""
    loss: float
    """(L(w + c z) + L(w - c z)) / 2."""


class Slopes(NamedTuple):
    """What the ladder found."""

    scale: float
    """The largest at which the loss is still nearly linear along the directions."""
    quotients: dict[int, float]
    """Difference quotients at the most reliable scale, by direction."""
    curvature: float
    """Mean of z^T H z over the directions at that scale, H the Hessian; may be negative, NaN if unknown."""


def place(index: int) -> tuple[float, int]:
    """Scale and direction of the index-th pair."""
    rung, direction = divmod(index % PAIRS, DIRECTIONS)
    return SCALES[rung], direction


def slopes(trials: Iterable[Trial]) -> Slopes | None:
    """What the ladder shows; None where it shows no slope, as the loss does not change or is not finite.

    The most reliable scale is the one whose quotients change least to the next: below it rounding disturbs them, above
    it curvature does.
    """
    table, losses = np.full((2, len(SCALES), DIRECTIONS), np.nan)
    for trial in trials:
        at = SCALES.index(trial.scale), int(trial.direction)
        table[at], losses[at] = trial.quotient, trial.loss
    changes = [_change(table[rung], table[rung + 1]) for rung in range(len(SCALES) - 1)]
    if not np.isfinite(changes).any():
        return None
    best = int(np.nanargmin(changes))
    linear = [rung for rung in range(best, len(SCALES)) if _change(table[best], table[rung]) <= DISAGREEMENT]
    found = {direction: float(x) for direction, x in enumerate(table[best]) if np.isfinite(x)}
    scale = SCALES[max(linear)]
    rises = (losses[max(linear)] - losses[0])[list(found)]  # the smallest scale stands for w itself
    return Slopes(scale, found, float(2 * rises.mean() / scale**2))


def _change(before: Float64, after: Float64) -> float:
    """Root mean square of the change, relative to that of what was before; NaN where it is unknown."""
    known = np.isfinite(before) & np.isfinite(after)
    size = np.linalg.norm(before[known])
    return float(np.linalg.norm(after[known] - before[known]) / size) if size else np.nan
