"""Which weights a model gets: those asked for, in any spelling, and never random ones."""

import shutil
from pathlib import Path

import open_clip
import pytest
import torch

from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.errors import InputError
from zip_ray.shipped import MODELS


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B/32"])
@pytest.mark.parametrize("tag", ["openai", "OpenAI", "metaclip-400m", "metaclip_400m"])
def test_another_activation_is_refused_in_every_spelling(name: str, tag: str) -> None:
    with pytest.raises(InputError, match=r"model.name: 'ViT-B-32' has another activation .*: give ViT-B-32-quickgelu"):
        load_clip(ModelConfig(name=name, pretrained=tag), "cpu")


def test_names_and_tags_reach_open_clip_as_it_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def create(name: str, pretrained: str, **_: object) -> None:
        asked.append((name, pretrained))
        raise RuntimeError("no download here")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    for name, tag in (("ViT-B/32-quickgelu", "OpenAI"), ("ViT-B-32", "laion2B-s34B-b79K"), ("ViT-B/32", "/My/W-1.pt")):
        with pytest.raises(InputError, match="no download here"):
            load_clip(ModelConfig(name=name, pretrained=tag), "cpu")
    assert asked == [("ViT-B-32-quickgelu", "openai"), ("ViT-B-32", "laion2b_s34b_b79k"), ("ViT-B-32", "/My/W-1.pt")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small CLIP's config, without its weights."""
    shutil.copy(Path(MODELS["small-clip"]) / "open_clip_config.json", tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", [None, "weights.pt", "model.safetensors.index.json"])
def test_a_folder_without_weights_is_refused(folder: Path, file: str | None) -> None:
    if file:
        (folder / file).write_text("x")
    looked_for = r"no weights \(\*.safetensors, \*.bin, \*.pth\) in .*, which holds .*open_clip_config.json"
    with pytest.raises(InputError, match=looked_for) as caught:
        load_clip(ModelConfig(name=f"local-dir:{folder}"), "cpu")
    assert (file or "") in str(caught.value)


def test_a_model_that_open_clip_leaves_random_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example a hub name whose config is cached and whose weights are not."""
    (folder / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(open_clip.factory, "_find_checkpoint_in_dir", lambda _: None)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_clip(ModelConfig(name=f"local-dir:{folder}"), "cpu")


def test_pretrained_beside_a_folder_is_refused() -> None:
    with pytest.raises(InputError, match=r"model.pretrained: 'x': model.name 'small-clip' has weights of its own"):
        load_clip(ModelConfig(name="small-clip", pretrained="x"), "cpu")


def test_the_weights_of_a_folder_are_loaded() -> None:
    one, two = (load_clip(ModelConfig(name=n), "cpu") for n in ("small-clip", f"local-dir:{MODELS['small-clip']}"))
    assert one.weights_digest == two.weights_digest
    assert all(torch.isfinite(p).all() for p in one.model.parameters())
