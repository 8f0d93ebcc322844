"""What is tuned: maps from the parameters `w` to a prompt. numpy only."""

from typing import Any

from zip_ray.prompts.base import PromptSpace, TextSpace, step_unit
from zip_ray.prompts.context import ContextSpace
from zip_ray.prompts.full import FullSpace
from zip_ray.prompts.low_rank import LowRankSpace
from zip_ray.prompts.options import SpaceOptions
from zip_ray.prompts.random_projection import RandomProjectionSpace
from zip_ray.prompts.visual import DecoderSpace, FrameSpace, TokensSpace
from zip_ray.protocol.facts import ModelShape

SPACES: dict[str, Any] = {
    "low-rank": LowRankSpace,
    "full": FullSpace,
    "context": ContextSpace,
    "random-projection": RandomProjectionSpace,
    "frame": FrameSpace,
    "decoder": DecoderSpace,
    "tokens": TokensSpace,
}


def make_space(options: SpaceOptions, shape: ModelShape, seed: int) -> PromptSpace:
    """The prompt space that the options describe.

    Raises:
        InputError: it does not fit the model.
    """
    space: PromptSpace = SPACES[options.space](options, shape, seed)  # type: ignore[attr-defined]
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
    "step_unit",
]
