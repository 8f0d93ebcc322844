"""What a query answers, from the cross-entropies of its images; for numpy arrays and torch tensors alike."""

import math
from typing import Any, Literal, TypeVar

FOCAL_GAMMA = 2
Loss = Literal["cross-entropy", "focal"]
Array = TypeVar("Array", bound=Any)
"""A numpy array or a torch tensor."""


def image_losses(cross_entropies: Array, loss: Loss) -> Array:
    """Losses of single images: their cross-entropies, or (1 - p)^gamma times them, p = exp(-cross-entropy).

    Focal loss: Lin et al., ICCV 2017; gamma 2 as in BAR (Tsai et al., ICML 2020).
    """
    if loss == "cross-entropy":
        return cross_entropies
    focal: Array = (1 - math.e**-cross_entropies) ** FOCAL_GAMMA * cross_entropies
    return focal
