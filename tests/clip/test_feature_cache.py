"""Features kept on disk are found again, and are never stale or damaged."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from zip_ray.clip.feature_cache import FeatureCache
from zip_ray.tasks.images import ArrayImages, FileImages

IMAGES = ArrayImages(np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), np.array([0, 1]))
FEATURES = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))


class Encoder:
    def __init__(self, features: torch.Tensor = FEATURES) -> None:
        self.features, self.calls = features, 0

    def __call__(self) -> torch.Tensor:
        self.calls += 1
        return self.features


def test_encoded_once(tmp_path: Path) -> None:
    encoder = Encoder()
    for _ in range(3):
        features = FeatureCache(tmp_path, {"weights": "a"}).get(IMAGES, {}, encoder)
        assert torch.equal(features, FEATURES)
    assert encoder.calls == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_whatever_changes_is_another_file(tmp_path: Path) -> None:
    encoder = Encoder()
    FeatureCache(tmp_path, {"weights": "a"}).get(IMAGES, {}, encoder)
    FeatureCache(tmp_path, {"weights": "b"}).get(IMAGES, {}, encoder)
    FeatureCache(tmp_path, {"weights": "a"}).get(IMAGES, {"seed": 1}, encoder)
    FeatureCache(tmp_path, {"weights": "a"}).get(IMAGES.subset([1, 0]), {}, encoder)
    assert encoder.calls == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damage_is_seen_and_repaired(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    encoder = Encoder()
    FeatureCache(tmp_path, {}).get(IMAGES, {}, encoder)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    broken = {"flip": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-4], "empty": b"", "foreign": b"{}" * 50}
    path.write_bytes(broken[damage])
    with caplog.at_level(logging.WARNING):
        assert torch.equal(FeatureCache(tmp_path, {}).get(IMAGES, {}, encoder), FEATURES)
    assert "damaged" in caplog.text
    assert encoder.calls == 2
    assert path.read_bytes() == data


def test_no_place_to_write_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    encoder = Encoder()
    assert torch.equal(FeatureCache(blocked / "cache", {}).get(IMAGES, {}, encoder), FEATURES)
    assert "cannot be written" in caplog.text


def test_changed_file_is_another_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    images = FileImages((path,), np.array([0]))
    before = images.digest()
    path.write_bytes(b"two")
    assert images.digest() != before
