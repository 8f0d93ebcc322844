"""What the options of all prompt spaces have in common."""

import os
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from zip_ray.config.section import Count, Section

FROM_TEMPLATE = ("template", "auto")
"""Values of `init` for which a scorer starts at the words of the task's template; auto then finds a better one."""


def is_place(init: str) -> bool:
    """Whether `init` is the file or the folder of a tuned prompt: words have no slash."""
    return "/" in init or init.endswith(".safetensors")


def _lasting(init: str) -> str:
    """A place as it is found from any working directory."""
    return str(Path(os.path.expanduser(init)).absolute()) if is_place(init) else init


class SpaceOptions(Section):
    """What is tuned."""

    visual: ClassVar[bool] = False
    """Whether images are encoded anew for each prompt."""
    space: str = ""
    """Name of the prompt space."""


class ContextOptions(SpaceOptions):
    """What the spaces of contexts have in common."""

    init: Annotated[str, AfterValidator(_lasting)] = "random"
    """`random`, `template`, `auto`, a tuned prompt, or any words to start from. random = N(0, 0.02^2), as published;
    template = the words before {} in the task's template (where there are none: a photo of a); auto = those of the
    hand-written template with the lowest loss on the training images, which costs queries; the default with
    gauss-newton. A tuned prompt of the same model is given by its file or folder, with a slash: ./first, runs/first.
    The file must be readable on every node."""
    tokens: Count = 8
    """m: context tokens where `init` is random. Words have their own number of tokens."""
