"""What a visual prompt does to images: a frame, an image added, or tokens beside the patches.

Formulas: Park et al., ICLR 2025, released code, for BAR, BlackVIP and BPT-VLM; the spaces are in `prompts.visual`.
Float32 throughout, whatever the text tower runs in.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache

import timm
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from zip_ray.clip.image_features import IMAGES_PER_PASS, encode_images
from zip_ray.clip.loading import FrozenClip
from zip_ray.errors import InputError
from zip_ray.prompts.visual import NO_PATCHES, SOURCE_CHANNELS, inner_size
from zip_ray.protocol.facts import VisualPrompt

OWN_ENCODER = "clip"
"""The frozen encoder of a decoder that is the CLIP's own image tower."""


@torch.inference_mode()
def encode_prompted(
    clip: FrozenClip,
    images: Tensor,
    visual: VisualPrompt,
    conditions: Tensor | None = None,
    part: slice = slice(None),
) -> Tensor:
    """Unit-length features of images under a visual prompt, shape (images in `part`, embed).

    Args:
        clip: the frozen model.
        images: preprocessed, shape (n, 3, height, width); for a frame as `inside_frame` does.
        visual: the prompt. BatchNorm of a decoder takes the statistics of all n images, unless `fix_statistics` has
            fixed them.
        conditions: `encode_conditions` of the images, where they are known already.
        part: the images whose features are wanted.

    Raises:
        InputError: the image tower does not take tokens, or the frozen encoder cannot be loaded.
    """
    images = images.to(clip.device)
    match visual.kind:
        case "frame":
            prompted = _framed(clip, images[part], visual)
        case "decoder":
            if conditions is None:
                conditions = encode_conditions(clip, images, visual.encoder)
            drawn, _ = _decode(conditions, visual, (images.shape[2], images.shape[3]))
            mean, std = moments(clip)
            prompted = (images + drawn)[part].clamp((0 - mean) / std, (1 - mean) / std)
        case "tokens":
            prompted = images[part]
    with _appended(clip, visual) if visual.kind == "tokens" else nullcontext():
        return encode_images(clip, prompted)


def inside_frame(clip: FrozenClip) -> FrozenClip:
    """The model with images as small as they are inside of a frame: cropped and resized to that at once."""
    return clip.sized(inner_size(clip.image_size))


@torch.inference_mode()
def encode_conditions(clip: FrozenClip, images: Tensor, encoder: str) -> Tensor:
    """What a decoder is conditioned on: frozen features of images (n, 3, height, width), shape (n, feature).

    Args:
        clip: the frozen model.
        images: preprocessed for it; resized where the encoder takes another size.
        encoder: `clip` = the CLIP's own image tower, or a name of timm, whose pooled feature is taken; of a vision
            transformer the class token before the last norm (published: vit_base_patch16_224.mae).

    Raises:
        InputError: timm does not have the encoder, or cannot fetch its weights.
    """
    chunks = images.to(clip.device).split(IMAGES_PER_PASS)
    if encoder == OWN_ENCODER:
        return torch.cat([clip.model.encode_image(chunk, normalize=False) for chunk in chunks])  # type: ignore[operator]
    model, size = _timm_encoder(encoder, clip.device)
    return torch.cat([model(_resized(chunk, size)) for chunk in chunks])


@torch.inference_mode()
def fix_statistics(visual: VisualPrompt, conditions: Tensor, size: tuple[int, int]) -> VisualPrompt:
    """The prompt with BatchNorm's statistics fixed at those of some images: then no image depends on its neighbours.

    Args:
        visual: a prompt; one without BatchNorm is returned unchanged.
        conditions: `encode_conditions` of the images.
        size: of the images, height and width.
    """
    if visual.kind != "decoder":
        return visual
    _, statistics = _decode(conditions, visual, size)
    return replace(visual, tensors=visual.tensors | {name: value.cpu().numpy() for name, value in statistics.items()})


@torch.inference_mode()
def batch_statistics(visual: VisualPrompt, conditions: Tensor, size: tuple[int, int]) -> Tensor:
    """What a decoder's BatchNorm adds to its running statistics: all means, then all unbiased variances, flat.

    Args:
        visual: a decoder.
        conditions: `encode_conditions` of the images of a mini-batch.
        size: of the images, height and width.
    """
    _, found = _decode(conditions, visual, size)
    means = [value for name, value in found.items() if name.endswith("mean")]
    variances = [value for name, value in found.items() if name.endswith("variance")]
    for stage, variance in enumerate(variances):
        halvings = len(variances) - stage
        count = len(conditions) * (size[0] >> halvings) * (size[1] >> halvings)
        variances[stage] = variance * (count / (count - 1))
    return torch.cat([*means, *variances])


def moments(clip: FrozenClip) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the normalisation, each of shape (3, 1, 1)."""
    mean, std = (torch.tensor(clip.preprocess_config[key], device=clip.device) for key in ("mean", "std"))
    return mean.view(3, 1, 1), std.view(3, 1, 1)


def _framed(clip: FrozenClip, images: Tensor, visual: VisualPrompt) -> Tensor:
    """The images in a frame of sigmoid(W), which is as large as what the model sees."""
    mean, std = moments(clip)
    (height, width), (h, w) = visual.tensors["weights"].shape[-2:], images.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    framed = _tensor(visual, "weights", clip.device).sigmoid().repeat(len(images), 1, 1, 1)
    framed[..., top : top + h, left : left + w] = images * std + mean
    return (framed - mean) / std


def _decode(conditions: Tensor, visual: VisualPrompt, size: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Images drawn by a decoder, shape (n, 3, *size), and the means and variances that BatchNorm used."""
    t = {name: _tensor(visual, name, conditions.device) for name in visual.tensors}
    hidden = sum(name.endswith("mix.weight") for name in t)
    trigger = t["trigger"].expand(len(conditions), -1)
    x = torch.cat([conditions, trigger], dim=1)
    x = x.reshape(len(x), SOURCE_CHANNELS, size[0] >> (hidden + 1), size[1] >> (hidden + 1))
    statistics: dict[str, Tensor] = {}
    for stage in range(hidden):
        x = functional.conv_transpose2d(
            x, t[f"{stage}.spread.weight"], t[f"{stage}.spread.bias"], stride=2, groups=x.shape[1]
        )
        x = functional.conv_transpose2d(x, t[f"{stage}.mix.weight"])
        mean, variance = f"{stage}.norm.mean", f"{stage}.norm.variance"
        if mean not in t:
            t[variance], t[mean] = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        statistics |= {mean: t[mean], variance: t[variance]}
        norm = t[mean], t[variance], t[f"{stage}.norm.weight"], t[f"{stage}.norm.bias"]
        x = functional.gelu(functional.batch_norm(x, *norm))
    return functional.conv_transpose2d(x, t["colours.weight"], stride=2), statistics


@contextmanager
def _appended(clip: FrozenClip, visual: VisualPrompt) -> Iterator[None]:
    """Tokens behind class token and patches, after their positions were added and before the first norm."""
    tower, tokens = clip.model.visual, _tensor(visual, "tokens", clip.device)
    if not isinstance(tower, VisionTransformer):
        raise InputError(NO_PATCHES)

    def append(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return torch.cat([inputs[0], tokens.expand(len(inputs[0]), -1, -1)], dim=1)

    handle = tower.ln_pre.register_forward_pre_hook(append)
    try:
        yield
    finally:
        handle.remove()


@lru_cache(maxsize=1)
def _timm_encoder(name: str, device: torch.device) -> tuple[nn.Module, tuple[int, int]]:
    """A frozen encoder, and the height and width that it takes."""
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # timm and the hub client raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"prompt.encoder: '{name}' cannot be loaded from timm ({reason}): give a name that timm lists with "
            f"pretrained weights, or '{OWN_ENCODER}' for the CLIP's own image tower"
        ) from error
    if isinstance(model, timm.models.VisionTransformer):
        model.norm = nn.Identity()
    _, height, width = timm.data.resolve_model_data_config(model)["input_size"]
    return model.to(device).eval().requires_grad_(False), (height, width)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, without aliasing."""
    if images.shape[-2:] == size:
        return images
    return functional.interpolate(images, size, mode="bicubic", antialias=True)


def _tensor(visual: VisualPrompt, name: str, device: torch.device) -> Tensor:
    return torch.tensor(visual.tensors[name], device=device)
