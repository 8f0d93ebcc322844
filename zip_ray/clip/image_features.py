"""Image features: encoded once and kept, since only the text side of a query changes."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from zip_ray.clip.cuda_graph import to_device
from zip_ray.clip.feature_cache import NO_CACHE, FeatureCache
from zip_ray.clip.loading import FrozenClip
from zip_ray.config.task import TaskConfig
from zip_ray.protocol.mini_batches import mini_batch
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.tasks import ImageSet
from zip_ray.tasks.counted import counted
from zip_ray.tasks.images import each_image

IMAGES_PER_PASS = 64
"""Images per pass of the tower; fixed, so that features have the same bits on every actor."""
CROP_ATTEMPTS = 10
ASPECT_RATIOS = (3 / 4, 4 / 3)


@torch.inference_mode()
def encode_images(clip: FrozenClip, images: Iterable[Tensor]) -> Tensor:
    """Unit-length float32 features, shape (n, embed), of preprocessed images of shape (3, height, width)."""
    features, chunk = [], []
    for image in images:
        chunk.append(image)
        if len(chunk) == IMAGES_PER_PASS:
            features.append(_encode(clip, chunk))
            chunk = []
    if chunk:
        features.append(_encode(clip, chunk))
    if not features:  # in a data set for testing only
        return torch.empty(0, 0)
    return functional.normalize(torch.cat(features), dim=-1)


def split_features(clip: FrozenClip, images: ImageSet, cache: FeatureCache = NO_CACHE) -> Tensor:
    """Features of a split as at test time, shape (n, embed)."""

    return cache.get(images, {}, lambda: encode_images(clip, split_pixels(clip, images))).to(clip.device)


def split_pixels(clip: FrozenClip, images: ImageSet) -> Iterator[Tensor]:
    """The images as at test time, preprocessed, each of shape (3, height, width)."""
    return map(clip.preprocess, counted(each_image(images), len(images), "encoding"))


def train_features(
    clip: FrozenClip, images: ImageSet, task: TaskConfig, seed: int, cache: FeatureCache = NO_CACHE
) -> Tensor:
    """Features of the fixed views of the training images, shape (views, n, embed).

    With `views` = 0 there is one view, as at test time; with a number, that many keyed random crops of each image; with
    `fresh`, none.
    """
    if task.views == 0:
        return split_features(clip, images, cache).unsqueeze(0)
    if task.views == "fresh":
        return torch.empty(0, len(images), 0)
    draws = {"seed": seed, "views": task.views, "scale": task.crop_scale, "flip": task.flip}

    def encode() -> Tensor:
        return torch.stack([encode_images(clip, view) for view in view_pixels(clip, images, task, seed)])

    return cache.get(images, draws, encode).to(clip.device)


def view_pixels(clip: FrozenClip, images: ImageSet, task: TaskConfig, seed: int) -> Iterator[Iterator[Tensor]]:
    """Fixed views of all images, preprocessed: the one of test time if `views` = 0, else that many keyed crops."""
    if task.views == 0:
        yield split_pixels(clip, images)
        return
    crop = random_crop(clip, task)
    for view in range(1, 1 + int(task.views)):
        places = counted(range(len(images)), len(images), f"encoding crop {view} of {task.views} of the")
        yield (crop(images.image(i), generator(seed, Stream.VIEW, view, i)) for i in places)


def fresh_features(clip: FrozenClip, images: ImageSet, task: TaskConfig, seed: int, batch: int) -> Tensor:
    """Features of new random crops of the `batch`-th mini-batch, shape (images, embed)."""
    return encode_images(clip, fresh_pixels(clip, images, task, seed, batch))


def fresh_pixels(clip: FrozenClip, images: ImageSet, task: TaskConfig, seed: int, batch: int) -> Iterator[Tensor]:
    """New random crops of the `batch`-th mini-batch, preprocessed."""
    crop = random_crop(clip, task)
    chosen = mini_batch(len(images), task.batch_size, seed, batch)
    draws = (generator(seed, Stream.CROP, batch, place) for place in range(len(chosen)))
    return (crop(images.image(int(i)), rng) for i, rng in zip(chosen, draws, strict=True))


def random_crop(clip: FrozenClip, task: TaskConfig) -> Callable[[Image.Image, np.random.Generator], Tensor]:
    """CLIP's training transform with keyed draws: random resized crop, mirror, normalisation."""
    config = clip.preprocess_config
    size = list(clip.image_size)
    interpolation = InterpolationMode(config["interpolation"])

    def apply(image: Image.Image, rng: np.random.Generator) -> Tensor:
        top, left, h, w = crop_box(image.height, image.width, task.crop_scale, rng)
        cropped = vision.resized_crop(image, top, left, h, w, size, interpolation)
        if task.flip and rng.random() < 0.5:
            cropped = vision.hflip(cropped)
        tensor: Tensor = vision.normalize(vision.to_tensor(cropped), config["mean"], config["std"])
        return tensor

    return apply


def crop_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random box (top, left, height, width): area a share of the image in `scale`, aspect ratio in 3/4 .. 4/3.

    The law of RandomResizedCrop (Szegedy et al., CVPR 2015) as torchvision has it: if ten draws do not fit, the box is
    the largest in the centre whose aspect ratio is in that range, as often with images that are long or tall.
    """
    for _ in range(CROP_ATTEMPTS):
        area = height * width * rng.uniform(*scale)
        ratio = np.exp(rng.uniform(*np.log(ASPECT_RATIOS)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    narrow, wide = ASPECT_RATIOS
    w, h = min(width, round(height * wide)), min(height, round(width / narrow))
    return (height - h) // 2, (width - w) // 2, h, w


def _encode(clip: FrozenClip, images: Sequence[Tensor]) -> Tensor:
    pixels = to_device(torch.stack(list(images)), clip.device)
    features: Tensor = clip.model.encode_image(pixels)  # type: ignore[operator]
    return features
