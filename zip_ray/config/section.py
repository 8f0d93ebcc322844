"""What all sections of the config are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# Seeds key a 64-bit counter-based generator; the command line and JSON hold them exactly up to 2^53.
Seed = Annotated[int, Field(ge=0, lt=2**53)]


class Section(BaseModel):
    """A part of the config: immutable, and an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
