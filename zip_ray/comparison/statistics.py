"""The figures of a comparison: means, smoothed curves, queries to a target, paired tests. Shares lie in 0 to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zip_ray.protocol.arrays import Float64

SMOOTHED_SHARE = 0.05
"""Share of the budget over which training accuracy is averaged, back from each step."""


@dataclass(frozen=True)
class Curve:
    """Accuracy along a run."""

    queries: Float64
    """Charged when each point was taken, rising; shape (n,)."""
    seconds: Float64
    """Seconds of tuning at each point, shape (n,)."""
    accuracy: Float64
    """Shape (n,)."""


@dataclass(frozen=True)
class PairedTest:
    """Wilcoxon's signed-rank test of one method against the reference."""

    method: str
    pairs: int
    difference: float
    """Mean of the method's accuracy less the reference's."""
    p: float
    """Two-sided, of this test alone; NaN without pairs."""
    holm: float
    """Adjusted for all tests of the family (Holm 1979)."""


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and the sample's standard deviation (n - 1): NaN for a single value, both NaN for none."""
    if not values:
        return float("nan"), float("nan")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def harmonic_mean(one: float, other: float) -> float:
    """2 x y / (x + y); 0 where both are, NaN where one is."""
    return 0.0 if one + other == 0 else 2 * one * other / (one + other)


def smoothed(curve: Curve, budget: int) -> Curve:
    """Means over the steps of the last `SMOOTHED_SHARE * budget` queries, once that many have been charged."""
    window = SMOOTHED_SHARE * budget
    sums = np.concatenate([[0.0], np.cumsum(curve.accuracy)])
    first = np.searchsorted(curve.queries, curve.queries - window, side="right")
    upto = np.arange(1, len(curve.queries) + 1)
    means = (sums[upto] - sums[first]) / (upto - first)
    full = curve.queries >= window
    return Curve(curve.queries[full], curve.seconds[full], means[full])


def queries_to_target(curves: Mapping[str, Curve], budget: int) -> tuple[float, dict[str, float]]:
    """Queries that each method needs on one task with one seed.

    Park et al. (ICLR 2025, arXiv 2504.06838) report such figures without defining the target. The definition here is
    this project's: the target is the lowest, over the methods, of the best smoothed training accuracy within the
    budget; a method's figure is the first query count at which its smoothed curve reaches the target, or the budget if
    it never does.

    Args:
        curves: smoothed, by method.
        budget: queries of a run; a white box may have gone on.

    Returns:
        The target, NaN without any curve, and the figure of each method.
    """
    within = [curve.accuracy[curve.queries <= budget] for curve in curves.values()]
    best = [float(accuracy.max()) for accuracy in within if accuracy.size]
    if not best:
        return float("nan"), {method: float(budget) for method in curves}
    target = min(best)

    def first(curve: Curve) -> float:
        there = np.flatnonzero(curve.accuracy >= target)
        return min(float(curve.queries[there[0]]), budget) if there.size else float(budget)

    return target, {method: first(curve) for method, curve in curves.items()}


def paired_tests(accuracies: Mapping[str, Mapping[str, float]], reference: str) -> list[PairedTest]:
    """Every other method against the reference, two-sided, over the runs that both have.

    Args:
        accuracies: by method, then by run (such as task, shots and seed).
        reference: one of the methods.
    """
    found = []
    for method, own in accuracies.items():
        if method != reference:
            both = [key for key in own if key in accuracies[reference]]
            differences = np.array([own[key] - accuracies[reference][key] for key in both])
            mean = float(differences.mean()) if both else float("nan")
            found.append((method, len(both), mean, _wilcoxon(differences)))
    adjusted = holm([p for *_, p in found])
    return [PairedTest(*test, p) for test, p in zip(found, adjusted, strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted by Holm's step-down method: the i-th smallest of m times m - i + 1, at least the one before, at most 1.

    NaN stays NaN and does not belong to the family.
    """
    order = sorted((index for index, value in enumerate(p) if not np.isnan(value)), key=lambda index: p[index])
    adjusted, highest = [float("nan")] * len(p), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p[index]))
        adjusted[index] = highest
    return adjusted


def _wilcoxon(differences: Float64) -> float:
    from scipy.stats import wilcoxon

    if not differences.size:
        return float("nan")
    # Shares of the same number of images differ by rounding where they are equal, which would break ties at random.
    rounded = differences.round(9)
    if not rounded.any():
        return 1.0
    return float(wilcoxon(rounded).pvalue)


def band(curves: Sequence[tuple[Float64, Float64]], points: int = 200) -> tuple[Float64, Float64, Float64]:
    """Mean and standard deviation over seeds on a common axis, as long as the longest curve.

    A curve that ends earlier keeps its last value: its run had ended.

    Args:
        curves: x (rising) and y of each seed; linear in between.
        points: of the axis.

    Returns:
        x, mean, deviation (0 for a single curve), each of shape (points,).
    """
    start, end = max(float(x[0]) for x, _ in curves), max(float(x[-1]) for x, _ in curves)
    axis: Float64 = np.linspace(start, max(start, end), points, dtype=np.float64)
    values: Float64 = np.stack([np.interp(axis, x, y) for x, y in curves])
    mean: Float64 = np.mean(values, axis=0)
    deviation: Float64 = np.std(values, axis=0, ddof=1) if len(curves) > 1 else np.zeros(points)
    return axis, mean, deviation
