"""What is tuned: maps from the parameters `w` to a prompt. numpy only."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zip_ray import registry
from zip_ray.prompts.base import PromptSpace, TextSpace, step_unit
from zip_ray.prompts.context import ContextSpace
from zip_ray.prompts.full import FullSpace
from zip_ray.prompts.low_rank import LowRankSpace
from zip_ray.prompts.options import SpaceOptions
from zip_ray.prompts.random_projection import RandomProjectionSpace
from zip_ray.prompts.visual import DecoderSpace, FrameSpace, TokensSpace
from zip_ray.protocol.facts import ModelShape

SPACES: Mapping[str, Any] = MappingProxyType(
    {
        "low-rank": LowRankSpace,
        "full": FullSpace,
        "context": ContextSpace,
        "random-projection": RandomProjectionSpace,
        "frame": FrameSpace,
        "decoder": DecoderSpace,
        "tokens": TokensSpace,
    }
)
"""The built-in spaces. Others are named by entry points and paths (see `registry`)."""


def space_class(name: str) -> Any:
    """The class of a prompt space, built in or the user's own.

    Raises:
        InputError: there is none of that name.
    """
    return SPACES.get(name) or registry.find("prompt", name)


def make_space(options: SpaceOptions, shape: ModelShape, seed: int) -> PromptSpace:
    """The prompt space that the options describe.

    Raises:
        InputError: it does not fit the model.
    """
    space: PromptSpace = space_class(options.space)(options, shape, seed)
    return space


__all__ = [
    "SPACES",
    "ContextSpace",
    "FullSpace",
    "LowRankSpace",
    "PromptSpace",
    "RandomProjectionSpace",
    "TextSpace",
    "make_space",
    "space_class",
    "step_unit",
]
