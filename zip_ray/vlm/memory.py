"""Memory for what is kept of images."""

from collections import Counter
from collections.abc import Sequence

import psutil  # type: ignore[import-untyped]
import torch

SHARE = 0.5
"""Of the memory that is free once the model is loaded: the rest is for passes."""
GIB = 2**30


def free_memory(device: torch.device) -> int:
    """Bytes free now, on the device or for this process."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def room_on_gpus(layers: Sequence[torch.device]) -> int:
    """Bytes for keys and values on the GPUs of a model's layers: as much as fits where memory ends first.

    Args:
        layers: where each is.
    """
    counts = Counter(device for device in layers if device.type == "cuda")
    return min((int(SHARE * free_memory(device) * len(layers) / own) for device, own in counts.items()), default=0)
