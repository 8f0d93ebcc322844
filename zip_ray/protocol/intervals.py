"""How exactly an accuracy is known."""


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """95% interval of an accuracy on so many images (Wilson, JASA 1927); 0 to 1 without images."""
    from scipy.stats import binomtest

    if images == 0:
        return 0.0, 1.0
    low, high = binomtest(round(accuracy * images), images).proportion_ci(method="wilson")
    return float(low), float(high)
