"""Losses and hits of texts on images, from their features."""

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


def pooled(found: Tensor, classes: Tensor, first: int = 0) -> Tensor:
    """Logits of each image's chosen classes, and the logsumexp of its others: shape (prompts, images, k + 1), float64.

    Args:
        found: logits (prompts, images, classes); of a shard: what is chosen elsewhere is -inf.
        classes: chosen of each image, shape (images, k).
        first: number of the shard's first class.
    """
    found, end = found.double(), found.shape[2]
    here = (classes >= first) & (classes < first + end)
    places = torch.where(here, classes - first, end)
    padded = functional.pad(found, (0, 1), value=-torch.inf)
    index = places.expand(len(found), -1, -1)
    rest = padded.scatter(2, index, -torch.inf).logsumexp(dim=2, keepdim=True)
    return torch.cat([padded.gather(2, index), rest], dim=2)
