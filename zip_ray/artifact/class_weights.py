"""A tuned prompt as other programs use it: a linear classifier of the model's image features."""

import io
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.errors import InputError, OutputError
from zip_ray.files import write_whole
from zip_ray.protocol.arrays import Float32


def class_weights(prompt: TunedPrompt) -> tuple[Float32, Float32]:
    """Weights W, shape (classes, embed), and bias b, shape (classes,): an image's class scores are W f + b.

    f are the unit-length image features of the prompt's model, with its preprocessing. The factor of the cosine and the
    readout are folded in.

    Raises:
        InputError: images are prompted too, or the scorer gave no features of the classes.
    """
    if prompt.prompt.visual is not None:
        raise InputError(
            "the prompt changes images, so its classes are no weights of plain image features: use `zip-ray classify`"
        )
    if prompt.features.shape[1] == 0:
        raise InputError(
            f"the prompt has no class features: model.scorer '{prompt.card.scorer}' gave class scores only"
        )
    if prompt.readout is not None and prompt.head is not None:
        return prompt.head, prompt.readout.bias
    scaled = np.float32(prompt.card.logit_scale) * prompt.features
    return scaled, np.zeros(len(scaled), np.float32)


def write_class_weights(prompt: TunedPrompt, file: Path) -> None:
    """Write `weights`, `bias` and the class names.

    In a .safetensors file the class names, the model and its preprocessing are JSON in the header (`classnames`,
    `model`, `pretrained`, `weights_digest`, `preprocess`); in an .npz file the class names are an array `classnames`.

    Raises:
        InputError: as `class_weights`, or a file of another kind.
        OutputError: the file cannot be written.
    """
    weights, bias = class_weights(prompt)
    card = prompt.card
    if file.suffix == ".safetensors":
        facts = {name: getattr(card, name) for name in ("classnames", "model", "pretrained", "preprocess")}
        header = {name: json.dumps(value) for name, value in facts.items()} | {"weights_digest": card.weights_digest}
        data = save({"weights": weights, "bias": bias}, header)
    elif file.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, classnames=np.array(card.classnames), weights=weights, bias=bias)
        data = buffer.getvalue()
    else:
        raise InputError(f"file: '{file}': give a name that ends in .safetensors or .npz")
    try:
        write_whole(file, data)
    except OSError as error:
        raise OutputError(f"{file}: {error.strerror}: give a file in a folder that can be written to") from error
