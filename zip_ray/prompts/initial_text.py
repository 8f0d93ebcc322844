"""What a context can start from, beside random numbers: the words of a template, and a prompt tuned before."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import PHOTO

PUBLISHED_SUFFIX = "."
FILE_NAME = "tuned_prompt.safetensors"
"""File of a tuned prompt in a run folder."""


def around(template: str) -> tuple[str, str]:
    """The words before {} that a context can start from, and the text after it."""
    before, after = template.split("{}")
    if not before.strip():  # DTD: "{} texture."
        before, _ = PHOTO.split("{}")
    return before, after


class TunedStart(NamedTuple):
    """The context of a prompt tuned before."""

    context: Float32
    """Shape (m, width)."""
    suffix: str
    """Text after the class name."""


def read_tuned_start(init: str, weights_digest: str) -> TunedStart:
    """The context of a tuned prompt, given its file or its folder.

    Args:
        init: as `prompt.init` names it.
        weights_digest: of the model that is to be prompted.

    Raises:
        InputError: no tuned prompt, one without a context, or one of another model.
    """
    path = Path(init)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        with safe_open(path, framework="numpy") as file:
            card = json.loads((file.metadata() or {})["zip_ray"])
            context = file.get_tensor("context") if "context" in file.keys() else None  # noqa: SIM118
        digest, suffix = str(card["weights_digest"]), str(card["suffix"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"prompt.init: '{init}' holds no tuned prompt ({' '.join(str(error).split())[:100]}): give the folder of a "
            "finished run, or words without a slash"
        ) from error
    if context is None:
        raise InputError(f"prompt.init: '{init}' is a prompt of images: give one with a context")
    if digest != weights_digest:
        raise InputError(f"prompt.init: '{init}' was tuned on other weights than this model's: give one of this model")
    return TunedStart(np.asarray(context, dtype=np.float32), suffix)
