"""Passes of asks through the model, whole or in slices: losses, class scores, gradients."""

import numpy as np
import torch
from torch import Tensor

from zip_ray.clip.class_texts import WHOLE, Shard, Texts
from zip_ray.clip.cuda_graph import to_device
from zip_ray.clip.precision import Precision
from zip_ray.prompts import TextSpace
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.losses import Loss
from zip_ray.protocol.messages import Ask, AskResult, Slice
from zip_ray.protocol.shards import ShardStatistics, SliceResult, shard_bounds
from zip_ray.scorer.image_side import ImageSide
from zip_ray.scorer.logits import judge, logits, pooled, shard_statistics
from zip_ray.scorer.starts import Starts


class Passes:
    """Losses and scores of a frozen model on images at the points of asks."""

    def __init__(self, scale: float, texts: Texts, images: ImageSide, starts: Starts, classes: int, loss: Loss) -> None:
        """Prepare the passes.

        Args:
            scale: factor of the cosine.
            texts: its text side.
            images: its image side.
            starts: what parameters mean.
            classes: how many there are.
            loss: of an image.
        """
        self._scale, self._texts, self._images, self._starts = scale, texts, images, starts
        self._classes, self._loss = classes, loss

    @torch.inference_mode()
    def score(self, asks: tuple[Ask, ...], precision: Precision | None = None) -> tuple[AskResult, ...]:
        """All points of all asks in one pass through the text tower.

        Args:
            asks: any but gradients.
            precision: of the text tower; the configured one if None.

        Raises:
            InputError: a text is too long, or a start cannot be used.
        """
        prompts = [self._starts.asked(ask) for ask in asks]
        texts = self._texts.encode([one for of_ask in prompts for one in of_ask], precision=precision)
        judged, scores, statistics = [], [], []
        for ask, of_ask, text in zip(asks, prompts, texts.split([len(one) for one in prompts]), strict=True):
            images, labels = self._images.asked(ask, of_ask)
            found = logits(self._scale, images, text)
            judged.append(judge(found, labels, self._loss))
            scores.append(self._scores(ask, found))
            statistics.append(self._images.statistics(ask, of_ask))
        figures = torch.stack(judged).tolist()  # the only synchronisation with the GPU
        return tuple(
            [
                AskResult(
                    tuple(losses),
                    sum(right) / len(right),
                    scores=None if of_ask is None else _to_float32(of_ask),
                    statistics=seen,
                )
                for (losses, right), of_ask, seen in zip(figures, scores, statistics, strict=True)
            ]
        )

    @torch.inference_mode()
    def score_slice(self, part: Slice) -> SliceResult:
        """Some sides against some classes or some images, in one pass; raises what `score` does."""
        prompts = [self._starts.asked(ask, part.sides) for ask in part.asks]
        shard, first = self._shard(part)
        texts = self._texts.encode([one for of_ask in prompts for one in of_ask], shard).split(len(part.sides))
        parts, scores = [], []
        for ask, of_ask, text in zip(part.asks, prompts, texts, strict=True):
            places = self._places(part, ask)
            images, labels = self._images.asked(ask, of_ask, places)
            found = logits(self._scale, images, text)
            parts.append(shard_statistics(found, labels, first))
            scores.append(self._scores(ask, found, places, first))
        return SliceResult(
            tuple(
                ShardStatistics(maxima, sums, targets, right > 0, None if of_ask is None else of_ask.cpu().numpy())
                for (maxima, sums, targets, right), of_ask in zip([p.cpu().numpy() for p in parts], scores, strict=True)
            )
        )

    def differentiate(self, ask: Ask) -> AskResult:
        """Loss and gradient through the plain text pass; the prompt space carries it on to the parameters."""
        space = self._starts.space(ask.start)
        assert isinstance(space, TextSpace)
        context = torch.from_numpy(space.context(ask.w)).requires_grad_()
        images, labels = self._images.asked(ask)
        encoder = self._texts.plain(len(context), self._starts.prompt(ask.w, ask.start).suffix)
        # The clone leaves inference mode, since autograd keeps no tensors made in it.
        found = logits(self._scale, images.clone(), encoder.differentiable(context.unsqueeze(0)))
        loss, accuracy = judge(found, labels, self._loss)[:, 0]
        (gradient,) = torch.autograd.grad(loss, context)
        pulled = space.pullback(ask.w, gradient.double().numpy())
        scores = self._scores(ask, found.detach())
        return AskResult((loss.item(),), accuracy.item(), pulled, None if scores is None else _to_float32(scores))

    def _scores(self, ask: Ask, found: Tensor, places: slice = slice(None), first: int = 0) -> Tensor | None:
        """Those of logits (prompts, images, classes) that an ask wants: float32, or float64 where others are pooled.

        Args:
            ask: wants them, or none.
            found: logits of these images and of the classes from `first` on.
            places: of these images among those of the ask.
            first: number of the first class.
        """
        if ask.scores is None or ask.scores.classes is None:
            return None if ask.scores is None else found
        chosen = ask.scores.classes
        if chosen.shape[1] >= self._classes:
            raise ValueError(f"{chosen.shape[1]} chosen classes of {self._classes}: None asks for all")
        return pooled(found, to_device(torch.from_numpy(chosen[places].astype(np.int64)), found.device), first)

    def _shard(self, part: Slice) -> tuple[Shard, int]:
        """The classes of a slice, and the first of them."""
        if part.over == "images":
            return WHOLE, 0
        return (part.shard, part.shards), shard_bounds(self._classes, part.shard, part.shards)[0]

    def _places(self, part: Slice, ask: Ask) -> slice:
        """Places of a slice's images among those of an ask."""
        if part.over == "classes":
            return slice(None)
        return slice(*shard_bounds(self._images.count(ask), part.shard, part.shards))


def _to_float32(scores: Tensor) -> Float32:
    return np.ascontiguousarray(scores.float().cpu().numpy())
