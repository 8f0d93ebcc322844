"""Loading a frozen model through open_clip: one that ships, by name and pretrained tag, by file, or by folder."""

import difflib
import hashlib
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from zip_ray.clip.checkpoints import has_quick_gelu, readable
from zip_ray.config.model import ModelConfig
from zip_ray.errors import InputError
from zip_ray.shipped import MODELS

LOCAL_DIR = "local-dir:"
WEIGHTS = (".safetensors", ".bin", ".pth")
"""Endings of the files in a folder that open_clip reads weights from."""
Tokenizer = Callable[..., Tensor]


@dataclass(frozen=True)
class FrozenClip:
    """A model of open_clip in evaluation mode, float32, without gradients."""

    model: nn.Module
    tokenizer: Tokenizer
    preprocess: Callable[[Image.Image], Tensor]
    """Image to tensor of shape (3, height, width), as at test time."""
    preprocess_config: dict[str, Any]
    """What `preprocess` does: size, mean, std, interpolation, resize_mode."""
    device: torch.device

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of a preprocessed image."""
        size = self.preprocess_config["size"]
        return (size, size) if isinstance(size, int) else tuple(size)

    def sized(self, size: tuple[int, int]) -> "FrozenClip":
        """The model with images of another height and width, preprocessed as its own are."""
        config = {**self.preprocess_config, "size": size}
        preprocess = image_transform_v2(PreprocessCfg(**config), is_train=False)
        return replace(self, preprocess=preprocess, preprocess_config=config)

    @cached_property
    def weights_digest(self) -> str:
        """Digest of all weights; takes about a second per gigabyte."""
        return weights_digest(self.model.state_dict())

    @cached_property
    def logit_scale(self) -> float:
        """Factor of the cosine, read once. A bias (SigLIP) is left out: it changes neither softmax nor argmax."""
        return float(self.model.logit_scale.detach().exp())  # type: ignore[operator]


def load_clip(config: ModelConfig, device: str) -> FrozenClip:
    """Load a model.

    Args:
        config: name and weights.
        device: `cpu` or `cuda`.

    Raises:
        InputError: no such model, tag, folder or file, or weights that do not fit the architecture.
    """
    torch.backends.cudnn.allow_tf32 = False  # for image features, whatever the precision of the text tower
    name = resolve_name(config.name)
    tag = _tag(name, config.pretrained)
    _require_known(name)
    if ":" in name and tag is not None:
        raise InputError(f"model.pretrained: '{tag}': model.name '{config.name}' has weights of its own: leave it out")
    if ":" not in name and tag is None:
        raise InputError(
            f"model.pretrained: none is given for model.name '{name}', whose weights would be random: give a tag "
            f"({', '.join(open_clip.list_pretrained_tags_by_model(name)[:4]) or 'there is none'}) or a checkpoint file"
        )
    _require_activation(name, tag)
    _require_weights(name)
    try:
        with TemporaryDirectory() as place:
            weights = tag and readable(tag, Path(place))
            model, _, preprocess = open_clip.create_model_and_transforms(
                name, pretrained=weights, precision="fp32", device=device, require_pretrained=True
            )
        tokenizer = open_clip.get_tokenizer(name)
    except InputError:
        raise
    except Exception as error:  # open_clip, torch and the hub client raise many kinds
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise InputError(
            f"model.name: '{config.name}' (pretrained: {config.pretrained}) cannot be loaded: {reason}; "
            "give a model that open_clip lists, or local-dir:PATH with open_clip_config.json and weights"
        ) from error
    if not hasattr(model, "encode_text") or not hasattr(model, "logit_scale"):
        raise InputError(
            f"model.name: '{config.name}' is a {type(model).__name__} without a text tower: choose another"
        )
    model = model.float().eval().requires_grad_(False)
    return FrozenClip(model, tokenizer, preprocess, dict(model.visual.preprocess_cfg), torch.device(device))


def _require_known(name: str) -> None:
    """Refuse a name that open_clip does not list, before its weights are looked for.

    Raises:
        InputError: names similar ones.
    """
    known = [*MODELS, *open_clip.list_models()]
    if ":" not in name and name not in known:
        near = ", ".join(difflib.get_close_matches(name, known)) or "one of open_clip.list_models()"
        raise InputError(f"model.name: '{name}' is unknown to open_clip: give {near}, or local-dir:FOLDER_OF_THE_MODEL")


def _tag(name: str, given: str | None) -> str | None:
    """Weights as open_clip lists them, in whatever spelling they are given; a path stays as it is."""
    if given is None:
        return None
    listed = given.lower().replace("-", "_")
    known = [tag for one in (name, f"{name}-quickgelu") for tag in open_clip.list_pretrained_tags_by_model(one)]
    return listed if listed in known else given


def _require_weights(name: str) -> None:
    """Refuse a folder without weights that open_clip recognises: it would use random ones.

    Raises:
        InputError: lists the files that are expected, and those that exist.
    """
    if not name.startswith(LOCAL_DIR):
        return
    folder = Path(name.removeprefix(LOCAL_DIR))
    if not any(path.suffix in WEIGHTS for path in folder.iterdir()):
        there = ", ".join(sorted(path.name for path in folder.iterdir()))
        looked_for = ", ".join(f"*{suffix}" for suffix in WEIGHTS)
        raise InputError(f"model.name: no weights ({looked_for}) in {folder}, which holds {there}: add them")


def _require_activation(name: str, tag: str | None) -> None:
    """Refuse weights trained with QuickGELU in a model with GELU: open_clip only warns, and the features are wrong.

    Raises:
        InputError: the model has a variant with the right activation; the message names it.
    """
    right = f"{name}-quickgelu"
    of_file = tag is not None and has_quick_gelu(tag) and right in open_clip.list_models()
    if of_file or tag in open_clip.list_pretrained_tags_by_model(right):
        raise InputError(f"model.name: '{name}' has another activation than the weights '{tag}': give {right}")


def resolve_name(name: str) -> str:
    """The name as open_clip lists it; a model that ships becomes `local-dir:` and its folder on this machine.

    Raises:
        InputError: `local-dir:` names a folder without a model.
    """
    if name in MODELS:
        return f"{LOCAL_DIR}{MODELS[name]}"
    if not name.startswith(LOCAL_DIR):
        return name if ":" in name else name.replace("/", "-")
    path = Path(os.path.expanduser(name.removeprefix(LOCAL_DIR)))
    if not (path / "open_clip_config.json").is_file():
        raise InputError(
            f"model.name: '{name}': no open_clip_config.json in {path}: give local-dir:FOLDER_OF_THE_MODEL"
        )
    return f"{LOCAL_DIR}{path}"


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of the weights, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
