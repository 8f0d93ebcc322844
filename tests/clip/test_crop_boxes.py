"""Boxes of random crops against torchvision's."""

import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from zip_ray.clip.image_features import crop_box
from zip_ray.protocol.random_keys import Stream, generator


def test_crop_boxes_keep_to_the_image_and_the_scale() -> None:
    shares = []
    for i in range(400):
        top, left, h, w = crop_box(90, 60, (0.2, 0.5), generator(1, Stream.VIEW, 0, i))
        assert 0 <= top <= 90 - h
        assert 0 <= left <= 60 - w
        shares.append(h * w / (90 * 60))
    assert 0.19 < min(shares) < 0.25
    assert 0.45 < max(shares) < 0.52


class TorchDraws:
    """A numpy generator that draws from torch's global one: torchvision's draws, in the same order."""

    def uniform(self, low: float, high: float) -> float:
        return float(torch.empty(1).uniform_(low, high))

    def integers(self, end: int) -> int:
        return int(torch.randint(0, end, (1,)))


@pytest.mark.parametrize("size", [(64, 64), (90, 60), (60, 240), (240, 60), (1, 500)])
def test_crop_boxes_are_those_of_torchvision(size: tuple[int, int]) -> None:
    """Also long and tall images, for which ten draws in a row may not fit."""
    image = Image.new("RGB", size[::-1])
    for seed in range(200):
        torch.manual_seed(seed)
        expected = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        torch.manual_seed(seed)
        assert crop_box(*size, (0.08, 1.0), TorchDraws()) == expected  # type: ignore[arg-type]
