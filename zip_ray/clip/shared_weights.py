"""One copy of the weights for all CPU actors of a machine: a float32 file that each maps into its memory."""

import logging
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from zip_ray.clip.loading import FrozenClip, weights_digest

_log = logging.getLogger(__name__)


def share_weights(clip: FrozenClip, folder: Path) -> bool:
    """Let the model read its weights from a file whose pages all processes share, instead of a copy of its own.

    The file is named by the weights' digest, written by the first actor that needs it, and checked by all.

    Returns:
        Whether it was possible; if not, the model keeps its own copy.
    """
    path = folder / f"weights-{clip.weights_digest}.safetensors"
    try:
        if not path.is_file():
            _write(clip, path)
        state = load_file(path)
    except OSError as error:
        _log.warning("%s: weights are not shared between actors (%s)", path, error)
        return False
    except SafetensorError:
        state = {}
    if weights_digest(state) != clip.weights_digest:
        _log.warning("%s is damaged: weights are not shared between actors this time", path)
        path.unlink(missing_ok=True)
        return False
    clip.model.load_state_dict(state, assign=True)
    return True


def _write(clip: FrozenClip, path: Path) -> None:
    """Write the whole file or nothing; other actors may be writing the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        save_file({name: tensor.contiguous().clone() for name, tensor in clip.model.state_dict().items()}, mine)
        os.replace(mine, path)
    finally:
        mine.unlink(missing_ok=True)
