"""The facts of the frozen model that prompt spaces need, read from its weights and its preprocessing."""

from typing import Any

import torch

from zip_ray.clip.loading import FrozenClip
from zip_ray.clip.plain_text import token_embedding
from zip_ray.clip.visual_tower import encode_conditions
from zip_ray.prompts.options import SpaceOptions
from zip_ray.prompts.visual import DecoderOptions
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import ModelShape, Patches


def model_shape(clip: FrozenClip, initial_context: Float32, prompt: SpaceOptions) -> ModelShape:
    """The shape of a model, with the context that a run starts from.

    Raises:
        InputError: the frozen encoder of a decoder cannot be loaded.
    """
    height, width = clip.image_size
    features = 0
    if isinstance(prompt, DecoderOptions):
        features = encode_conditions(clip, torch.zeros(1, 3, height, width), prompt.encoder).shape[1]
    return ModelShape(
        initial_context=initial_context,
        token_std=float(token_embedding(clip.model).weight.std()),
        image_size=(height, width),
        patches=_patches(clip.model.visual),
        encoder_features=features,
    )


def _patches(visual: Any) -> Patches | None:
    """open_clip's own towers with a class token cut patches with `conv1`; in a ResNet `conv1` is something else."""
    if not hasattr(visual, "class_embedding"):
        return None
    weight = visual.conv1.weight
    return Patches(visual.conv1.out_channels, float(weight.mean()), float(weight.std()))
