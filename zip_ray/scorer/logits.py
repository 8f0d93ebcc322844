"""Losses and hits from features: how a scorer judges texts by images."""

import torch
from torch import Tensor
from torch.nn import functional

from zip_ray.protocol.losses import Loss, image_losses


def logits(scale: float, images: Tensor, text: Tensor) -> Tensor:
    """Scaled cosines, shape (prompts, images, classes).

    Args:
        scale: factor of the cosine.
        images: features, shape (images, embed), or (prompts, images, embed) where each prompt has its own.
        text: features, shape (prompts, classes, embed).
    """
    return scale * images @ text.transpose(1, 2)


def judge(found: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Mean losses and accuracies of logits (prompts, images, classes): shape (2, prompts), float64.

    Args:
        found: logits.
        labels: of the images, shape (images,), on the device of the logits.
        loss: of an image.
    """
    target = labels.expand(len(found), -1)
    # The mean in float64: a loss difference at c ~ 0.01 is a few thousand float32 roundings wide.
    entropies = functional.cross_entropy(found.double().transpose(1, 2), target, reduction="none")
    accuracy = (found.argmax(dim=2) == target).double().mean(dim=1)
    losses = entropies if loss == "cross-entropy" else image_losses(entropies, loss)
    return torch.stack([losses.mean(dim=1), accuracy])


def shard_statistics(found: Tensor, labels: Tensor, first: int) -> Tensor:
    """Maxima, sums, targets and hits of logits (prompts, images, classes): shape (4, prompts, images), float64.

    See `ShardStatistics`.

    Args:
        found: logits of this shard's classes.
        labels: of the images, shape (images,), on the device of the logits.
        first: number of the shard's first class.
    """
    found = found.double()
    target = (labels - first).expand(len(found), -1)
    here = (target >= 0) & (target < found.shape[2])
    own = found.gather(2, target.clamp(0, found.shape[2] - 1).unsqueeze(2)).squeeze(2)
    maxima, best = found.max(dim=2)
    sums = (found - maxima.unsqueeze(2)).exp().sum(dim=2)
    right = here & (best == target)
    return torch.stack([maxima, sums, own.masked_fill(~here, -torch.inf), right.double()])
