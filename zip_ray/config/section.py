"""What all sections of the config are made of."""

import os
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PathOrName = TypeVar("PathOrName", Path, str)
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# Seeds key a 64-bit counter-based generator; the command line and JSON hold them exactly up to 2^53.
Seed = Annotated[int, Field(ge=0, lt=2**53)]


def _at_home(path: PathOrName) -> PathOrName:
    """A path with its `~` read, which no shell has done in a YAML file."""
    return type(path)(os.path.expanduser(path))


AtHome = AfterValidator(_at_home)
Place = Annotated[Path, AtHome]


class Section(BaseModel):
    """A part of the config: immutable, and an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
