"""What the options of all prompt spaces have in common."""

from typing import ClassVar

from zip_ray.config.section import Count, Section

FROM_TEMPLATE = ("template", "auto")
"""Values of `init` for which a scorer starts at the words of the task's template; auto then finds a better one."""


class SpaceOptions(Section):
    """What is tuned."""

    visual: ClassVar[bool] = False
    """Whether images are encoded anew for each prompt."""
    space: str = ""
    """Name of the prompt space."""


class ContextOptions(SpaceOptions):
    """What the spaces of contexts have in common."""

    init: str = "random"
    """`random`, `template`, `auto`, or any words to start from. random = N(0, 0.02^2), as published; template = the
    words before {} in the task's template (where there are none: a photo of a); auto = those of the hand-written
    template with the lowest loss on the training images, which costs queries; the default with gauss-newton."""
    tokens: Count = 8
    """m: context tokens where `init` is random. Words have their own number of tokens."""
