"""What a query answers, from the cross-entropies of its images; for numpy arrays and torch tensors alike."""

import math
from typing import TYPE_CHECKING, Literal, TypeVar

from zip_ray.protocol.arrays import Float64

FOCAL_GAMMA = 2
Loss = Literal["cross-entropy", "focal"]
if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T", Float64, "Tensor")


def image_losses(cross_entropies: T, loss: Loss) -> T:
    """Losses of single images: their cross-entropies, or (1 - p)^gamma times them, p = exp(-cross-entropy).

    Focal loss: Lin et al., ICCV 2017; gamma 2 as in BAR (Tsai et al., ICML 2020).
    """
    if loss == "cross-entropy":
        return cross_entropies
    return (1 - math.e**-cross_entropies) ** FOCAL_GAMMA * cross_entropies
