"""What the options of all prompt spaces have in common."""

from typing import ClassVar

from zip_ray.config.section import Count, Section


class SpaceOptions(Section):
    """What is tuned."""

    visual: ClassVar[bool] = False
    """Whether images are encoded anew for each prompt."""


class ContextOptions(SpaceOptions):
    """What the spaces of contexts have in common."""

    init: str = "random"
    """`random`, `template`, or any words to start from. random = N(0, 0.02^2), as published; template = the words
    before {} in the task's template (where there are none: a photo of a)."""
    tokens: Count = 8
    """m: context tokens where `init` is random. Words have their own number of tokens."""
