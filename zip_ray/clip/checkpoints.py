"""Checkpoint files in the forms users have, converted to the form that open_clip reads."""

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from zip_ray.errors import InputError

NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep the weights beside other things."""
OF_TRANSFORMERS = "vision_model.embeddings.patch_embedding.weight"
"""A tensor that transformers' CLIPModel has under this name."""
_NAMES = (
    (r"^text_model\.embeddings\.token_embedding", "token_embedding"),
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.final_layer_norm", "ln_final"),
    (r"^text_model\.encoder\.layers", "transformer.resblocks"),
    (r"^text_projection\.weight", "text_projection"),
    (r"^vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding", "visual.conv1"),
    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm", "visual.ln_pre"),
    (r"^vision_model\.post_layernorm", "visual.ln_post"),
    (r"^vision_model\.encoder\.layers", "visual.transformer.resblocks"),
    (r"^visual_projection\.weight", "visual.proj"),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
"""Names in transformers' CLIPModel, and in open_clip."""


def readable(pretrained: str, place: Path) -> str:
    """The file of weights as open_clip reads it: itself, or the same weights written into `place`.

    Read are OpenAI's TorchScript archives, weights under `model` and the like, those of a compiled or a distributed
    model, and of transformers' CLIPModel. A tag, or a file of another kind, is returned as it is.

    Raises:
        InputError: weights cannot be read from the file.
    """
    path = Path(pretrained)
    if not path.is_file() or path.suffix not in (".pt", ".pth", ".bin", ".ckpt", ".safetensors"):
        return pretrained
    try:
        archive = is_archive(path)
        found = _archive(path) if archive else _load(path)
    except (
        Exception
    ) as error:  # of zipfile, pickle, safetensors and torch; torch's message is a page on its own options
        raise _unreadable(path, f"{type(error).__name__}: damaged, or it holds more than tensors") from error
    state = _plain(path, found)
    if OF_TRANSFORMERS in state:
        state = _of_transformers(state)
    elif found is state and not archive:
        return pretrained
    file = place / "weights.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, file)
    return str(file)


def has_quick_gelu(pretrained: str) -> bool:
    """Whether a file holds weights that are known to be trained with QuickGELU: OpenAI's archive, or transformers'
    weights whose config.json says so."""
    path = Path(pretrained)
    if not path.is_file():
        return False
    config = path.with_name("config.json")
    try:
        facts = json.loads(config.read_bytes()) if config.is_file() else {}
    except ValueError:
        facts = {}
    towers = [facts.get(f"{tower}_config") or {} for tower in ("text", "vision")] if isinstance(facts, dict) else []
    return is_archive(path) or any(tower.get("hidden_act") == "quick_gelu" for tower in towers)


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _archive(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated, but the archives still exist
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    return {name: tensor for name, tensor in state.items() if tensor.ndim or name == "logit_scale"}  # no sizes


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    # Mapped, since open_clip rereads a file that needs no change; files from before torch 1.6 cannot be mapped.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _plain(path: Path, found: Any) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint by their names in the model; `found` itself if there is nothing to change."""
    while isinstance(found, Mapping) and (key := next((k for k in NESTED if isinstance(found.get(k), Mapping)), None)):
        found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(one, Tensor) for one in found.values()):
        raise _unreadable(path, "no state dict")
    names = {name: name.replace("_orig_mod.", "") for name in found}  # of torch.compile
    if all(name.startswith("module.") for name in names.values()):  # of a distributed model
        names = {name: short.removeprefix("module.") for name, short in names.items()}
    return found if all(a == b for a, b in names.items()) else {short: found[name] for name, short in names.items()}


def _of_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' CLIPModel by open_clip's names; queries, keys and values are one matrix there."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("position_ids"):
            continue
        for pattern, short in _NAMES:
            name = re.sub(pattern, short, name)
        renamed[name] = tensor.T if name in ("text_projection", "visual.proj") else tensor
    for name in [name for name in renamed if ".attn.q_proj." in name]:
        parts = [renamed.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        renamed[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return renamed


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"model.pretrained: '{path}' cannot be read ({reason}): give OpenAI's archive, a state dict that "
        "torch.save wrote, or .safetensors"
    )
