"""Weights that several processes map instead of copying."""

from pathlib import Path

import pytest
import torch

from zip_ray.clip.loading import load_clip, weights_digest
from zip_ray.clip.plain_text import encode_texts
from zip_ray.clip.shared_weights import share_weights
from zip_ray.config.model import ModelConfig


def test_shared_weights_are_the_weights(tmp_path: Path) -> None:
    own, shared, again = (load_clip(ModelConfig(), "cpu") for _ in range(3))
    assert share_weights(shared, tmp_path)
    assert share_weights(again, tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == f"weights-{own.weights_digest}.safetensors"
    text = ["a photo of the digit 3.", "a circle."]
    for clip in (shared, again):
        assert weights_digest(clip.model.state_dict()) == own.weights_digest
        assert not any(parameter.requires_grad for parameter in clip.model.parameters())
        expected = encode_texts(own.model, own.tokenizer, text)
        torch.testing.assert_close(encode_texts(clip.model, clip.tokenizer, text), expected, atol=1e-6, rtol=0)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    assert mapped, "the file is mapped, not read"


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda _: b"nothing"])
def test_a_damaged_file_is_not_used_and_goes(tmp_path: Path, damage) -> None:
    clip = load_clip(ModelConfig(), "cpu")
    assert share_weights(clip, tmp_path)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    path.unlink()  # the mapping keeps the old bytes
    path.write_bytes(damage(data))
    fresh = load_clip(ModelConfig(), "cpu")
    assert not share_weights(fresh, tmp_path)
    assert weights_digest(fresh.model.state_dict()) == clip.weights_digest
    assert not path.exists()
    assert share_weights(fresh, tmp_path)


def test_no_place_to_write_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not share_weights(load_clip(ModelConfig(), "cpu"), tmp_path / "file" / "cache")
