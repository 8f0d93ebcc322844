"""What all sections of the config are made of."""

import os
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

PathOrName = TypeVar("PathOrName", Path, str)
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# Seeds key a 64-bit counter-based generator; the command line and JSON hold them exactly up to 2^53.
Seed = Annotated[int, Field(ge=0, lt=2**53)]


def _at_home(path: PathOrName) -> PathOrName:
    """A path with `~` expanded, since no shell has expanded it in a YAML file."""
    return type(path)(os.path.expanduser(path))


AtHome = AfterValidator(_at_home)
Place = Annotated[Path, AtHome]


class Section(BaseModel):
    """A part of the config: immutable, and an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would read `true` as 1."""
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
                raise ValueError(f"{str(one).lower()} is a truth value: give what this field asks for")
        return value
