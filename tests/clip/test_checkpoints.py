"""Checkpoint files in the forms users have give the same features as the model that was saved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.errors import InputError

SIZES = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small architectures of open_clip."""
    for name in ("tiny-for-tests-quickgelu", "tiny-for-tests"):
        file = tmp_path_factory.mktemp("configs") / f"{name}.json"
        file.write_text(json.dumps({**SIZES, "quick_gelu": name.endswith("gelu")}))
        open_clip.add_model_config(file)


def features(model: Any) -> list[Tensor]:
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.no_grad():
        return [model.encode_image(images), model.encode_text(open_clip.get_tokenizer("RN50")(["a cat", "two dogs"]))]


class Script(nn.Module):
    """A model whose archive also holds its sizes, as OpenAI's do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, tensor in model.state_dict().items():
            self._keep(name.split("."), tensor)
        for size in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(size, torch.tensor(32))

    def _keep(self, path: list[str], tensor: Tensor) -> None:
        place: nn.Module = self
        for part in path[:-1]:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.register_buffer(path[-1], tensor)

    def forward(self) -> None:
        return None


FORMS: dict[str, Callable[[nn.Module, Path], None]] = {
    "OpenAI's archive": lambda model, path: torch.jit.script(Script(model)).save(path),
    "plain": lambda model, path: torch.save(model.state_dict(), path),
    "under model": lambda model, path: torch.save({"model": model.state_dict(), "epoch": 3}, path),
    "compiled": lambda model, path: torch.save({f"_orig_mod.{k}": v for k, v in model.state_dict().items()}, path),
    "distributed and compiled": lambda model, path: torch.save(
        {"state_dict": {f"module._orig_mod.{k}": v for k, v in model.state_dict().items()}}, path
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_in_all_forms(form: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = open_clip.create_model("tiny-for-tests-quickgelu").eval()
    FORMS[form](model, tmp_path / "w.pt")
    found = load_clip(ModelConfig(name="tiny-for-tests-quickgelu", pretrained=str(tmp_path / "w.pt")), "cpu").model
    for got, expected in zip(features(found), features(model), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_weights_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    both = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "quick_gelu"}
    text = {"vocab_size": 49408, "hidden_size": 32, "intermediate_size": 128, "eos_token_id": 49407, **both}
    vision = {"hidden_size": 64, "intermediate_size": 256, "image_size": 32, "patch_size": 16, **both}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    other = transformers.CLIPModel(config).eval()
    torch.save(other.state_dict(), tmp_path / "pytorch_model.bin")
    config.save_pretrained(tmp_path)
    file = str(tmp_path / "pytorch_model.bin")
    model: Any = load_clip(ModelConfig(name="tiny-for-tests-quickgelu", pretrained=file), "cpu").model
    images, texts = features(model)
    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    tokens = open_clip.get_tokenizer("RN50")(["a cat", "two dogs"])
    with torch.no_grad():
        found = other(input_ids=tokens, pixel_values=pixels)
    cosines = nn.functional.normalize(images, dim=-1) @ nn.functional.normalize(texts, dim=-1).T
    torch.testing.assert_close(cosines * other.logit_scale.exp(), found.logits_per_image, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"another activation .*: give tiny-for-tests-quickgelu"):
        load_clip(ModelConfig(name="tiny-for-tests", pretrained=file), "cpu")


def test_the_activation_of_openai_s_archive_is_known(tmp_path: Path) -> None:
    FORMS["OpenAI's archive"](open_clip.create_model("tiny-for-tests"), tmp_path / "ViT-B-16.pt")
    with pytest.raises(InputError, match=r"another activation .*: give tiny-for-tests-quickgelu"):
        load_clip(ModelConfig(name="tiny-for-tests", pretrained=str(tmp_path / "ViT-B-16.pt")), "cpu")


@pytest.mark.parametrize(("content", "reason"), [(b"not weights", "UnpicklingError"), ({"a": 1}, "no state dict")])
def test_what_is_no_weights_gets_one_line(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError, match=rf"model.pretrained: '.*w.pt' cannot be read \({reason}.*: give") as caught:
        load_clip(ModelConfig(name="tiny-for-tests", pretrained=str(path)), "cpu")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
