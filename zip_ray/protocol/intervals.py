"""How exactly an accuracy is known."""

from math import sqrt

NORMAL_95 = 1.959964
"""Quantile of the normal distribution at 97.5%."""


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """95% interval of an accuracy on so many images (Wilson, JASA 1927); 0 to 1 without images.

    Closed form: scipy.stats has it too, and takes half a second to import, which every driver would spend.
    """
    if images == 0:
        return 0.0, 1.0
    spread = NORMAL_95**2 / images
    centre = (accuracy + spread / 2) / (1 + spread)
    half = sqrt(spread * (accuracy * (1 - accuracy) + spread / 4)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
