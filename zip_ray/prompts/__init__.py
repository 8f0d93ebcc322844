"""What is tuned: maps from the parameters `w` to a prompt. numpy only."""

from collections.abc import Callable

from zip_ray.config import Config, PromptConfig, Space
from zip_ray.prompts.base import PromptSpace, TextSpace
from zip_ray.prompts.context import ContextSpace
from zip_ray.prompts.full import FullSpace
from zip_ray.prompts.low_rank import LowRankSpace
from zip_ray.prompts.random_projection import RandomProjectionSpace
from zip_ray.prompts.visual import DecoderSpace, FrameSpace, TokensSpace
from zip_ray.protocol.messages import ModelShape

SPACES: dict[Space, Callable[[PromptConfig, ModelShape, int], PromptSpace]] = {
    "low-rank": LowRankSpace,
    "full": FullSpace,
    "context": ContextSpace,
    "random-projection": RandomProjectionSpace,
    "frame": FrameSpace,
    "decoder": DecoderSpace,
    "tokens": TokensSpace,
}


def make_space(config: Config, shape: ModelShape) -> PromptSpace:
    """The configured prompt space.

    Raises:
        InputError: it does not fit the model.
    """
    return SPACES[config.prompt.space](config.prompt, shape, config.seed)


__all__ = [
    "SPACES",
    "ContextSpace",
    "FullSpace",
    "LowRankSpace",
    "PromptSpace",
    "RandomProjectionSpace",
    "TextSpace",
    "make_space",
]
