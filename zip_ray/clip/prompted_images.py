"""The image side of a scorer whose prompts change images: mini-batches encoded anew for each prompt."""

from collections.abc import Iterable
from functools import cached_property, lru_cache
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from zip_ray.clip.image_features import (
    IMAGES_PER_PASS,
    encode_images,
    fresh_pixels,
    view_pixels,
)
from zip_ray.clip.loading import FrozenClip
from zip_ray.clip.visual_tower import (
    batch_statistics,
    encode_conditions,
    encode_prompted,
    fix_statistics,
    inside_frame,
    moments,
)
from zip_ray.config.task import TaskConfig
from zip_ray.prompts.options import SpaceOptions
from zip_ray.prompts.visual import DecoderOptions, FrameOptions
from zip_ray.protocol.facts import VisualPrompt
from zip_ray.protocol.mini_batches import mini_batch, mini_batch_views
from zip_ray.tasks import ImageSet

STATISTICS_BATCH = 1
"""Mini-batch that gives a deployed decoder the statistics of its BatchNorm."""


class PromptedBatches:
    """Preprocessed mini-batches of the training images, ready to be prompted.

    Fixed views are kept in main memory as bytes, 3 x height x width per view (147 KiB at 224 x 224). The latest
    mini-batch is kept in float32 on the device, since all queries of a step are on one mini-batch.
    """

    def __init__(self, clip: FrozenClip, images: ImageSet, task: TaskConfig, prompt: SpaceOptions, seed: int) -> None:
        """Preprocess the images; fresh crops are preprocessed mini-batch by mini-batch.

        Raises:
            InputError: an image cannot be read, or the frozen encoder of a decoder cannot be loaded.
        """
        self._framed = isinstance(prompt, FrameOptions)
        self._clip, self._images, self._task, self._seed = clip, images, task, seed
        self._sized = inside_frame(clip) if self._framed else clip
        self._encoder = prompt.encoder if isinstance(prompt, DecoderOptions) else None
        self._views: list[Tensor] = []
        """Bytes of each view, shape (n, 3, height, width)."""
        self._conditions: list[Tensor] = []
        """Conditions of a decoder for each view, shape (n, feature)."""
        if task.views != "fresh" and len(images) > 0:  # a data set for testing only has no training images
            for view in view_pixels(self._sized, images, task, seed):
                self._views.append(torch.stack([_to_bytes(clip, image) for image in view]))
                if self._encoder is not None:
                    chunks = self._views[-1].split(IMAGES_PER_PASS)
                    self._conditions.append(
                        torch.cat([self._encode_conditions(_to_pixels(clip, chunk)) for chunk in chunks])
                    )
        self._load = lru_cache(maxsize=1)(self._make)

    def features(self, batch: int, visual: VisualPrompt | None, part: slice) -> Tensor:
        """Unit-length features of a part of a mini-batch, shape (images of the part, embed); None = no prompt."""
        if visual is None:
            return encode_images(self._clip, self._unprompted(batch)[part])
        pixels, conditions = self._load(batch)
        return encode_prompted(self._clip, pixels, visual, conditions, part)

    def fix_statistics(self, visual: VisualPrompt) -> VisualPrompt:
        """The prompt as it is deployed: a decoder with the BatchNorm statistics of the first mini-batch."""
        pixels, conditions = self._load(STATISTICS_BATCH)
        if conditions is None:
            return visual
        return fix_statistics(visual, conditions, (pixels.shape[2], pixels.shape[3]))

    def statistics(self, batch: int, visual: VisualPrompt) -> Tensor:
        """What a decoder's BatchNorm sees in a mini-batch, flat (see `batch_statistics`)."""
        pixels, conditions = self._load(batch)
        assert conditions is not None
        return batch_statistics(visual, conditions, (pixels.shape[2], pixels.shape[3]))

    def _unprompted(self, batch: int) -> Tensor:
        """Pixels of a mini-batch without a prompt, which a frame would make smaller."""
        return (self._without_frame if self._framed else self)._load(batch)[0]

    @cached_property
    def _without_frame(self) -> "PromptedBatches":
        return PromptedBatches(self._clip, self._images, self._task, SpaceOptions(), self._seed)

    def _make(self, batch: int) -> tuple[Tensor, Tensor | None]:
        """Pixels of a mini-batch, and what a decoder is conditioned on."""
        if not self._views:
            fresh = fresh_pixels(self._sized, self._images, self._task, self._seed, batch)
            pixels = torch.stack(list(fresh)).to(self._clip.device)
            return pixels, None if self._encoder is None else self._encode_conditions(pixels)
        chosen = mini_batch(len(self._images), self._task.batch_size, self._seed, batch).tolist()
        views = mini_batch_views(len(chosen), len(self._views), self._seed, batch).tolist()
        places = list(zip(views, chosen, strict=True))
        pixels = _to_pixels(self._clip, torch.stack([self._views[view][image] for view, image in places]))
        if self._encoder is None:
            return pixels, None
        return pixels, torch.stack([self._conditions[view][image] for view, image in places])

    def _encode_conditions(self, pixels: Tensor) -> Tensor:
        assert self._encoder is not None
        return encode_conditions(self._clip, pixels, self._encoder)


def prompted_features(clip: FrozenClip, images: Iterable[Image.Image], visual: VisualPrompt | None) -> Tensor:
    """Unit-length features, shape (n, embed), of images, preprocessed a few at a time; without a prompt where None."""
    sized = inside_frame(clip) if visual is not None and visual.kind == "frame" else clip
    stream, features = map(sized.preprocess, images), []
    if visual is None:
        return encode_images(clip, stream)
    while chunk := list(islice(stream, IMAGES_PER_PASS)):
        features.append(encode_prompted(clip, torch.stack(chunk), visual))
    return torch.cat(features)


def _to_bytes(clip: FrozenClip, image: Tensor) -> Tensor:
    """The bytes that a normalised image was made from."""
    mean, std = (moment.cpu() for moment in moments(clip))
    return ((image * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _to_pixels(clip: FrozenClip, images: Tensor) -> Tensor:
    """Bytes normalised again, with the bits that preprocessing gave."""
    mean, std = moments(clip)
    return (images.to(clip.device).float() / 255 - mean) / std
