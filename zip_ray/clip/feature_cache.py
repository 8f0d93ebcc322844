"""Image features on disk, so that later runs on the same model and images need not encode them again.

One safetensors file per set of features, read through a memory map that the actors of a machine share. Its name is the
digest of everything the features depend on, so that a stale file is never used; a digest inside detects damage.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zip_ray.files import write_shared
from zip_ray.tasks import ImageSet

_log = logging.getLogger(__name__)


@cache
def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and a user without an entry in passwd, as in a container
        _log.warning("no home folder: nothing is kept for later runs; set HOME or XDG_CACHE_HOME to a folder")
        return None


def default_folder() -> Path | None:
    """Folder of the caches on this machine: $XDG_CACHE_HOME/zip-ray, else ~/.cache/zip-ray; None without a home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "zip-ray"
    home = _home()
    return home / ".cache" / "zip-ray" if home else None


class FeatureCache:
    """Features by what they depend on. If the folder cannot be written, a run is slower but continues."""

    def __init__(self, folder: Path | None, facts: dict[str, object]) -> None:
        """Open the cache without reading.

        Args:
            folder: of the files; None = nothing is kept.
            facts: what all features depend on (weights, preprocessing), JSON values.
        """
        self._folder = folder
        # Bits of a float32 forward pass also depend on the library, the device and the number of threads.
        self._facts = {**facts, "torch": torch.__version__, "threads": torch.get_num_threads()}

    def get(self, images: ImageSet, draws: dict[str, object], encode: Callable[[], Tensor]) -> Tensor:
        """Features from the disk, or from `encode`, which are then kept.

        Args:
            images: what is encoded.
            draws: how random crops are drawn, JSON values; empty if there are none.
            encode: computes the features.

        Raises:
            InputError: an image cannot be read.
        """
        if self._folder is None:
            return encode()
        key = json.dumps({**self._facts, "images": images.digest(), "draws": draws}, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
        features = _read(path)
        if features is None:
            features = encode()
            _write(path, features)
        return features


NO_CACHE = FeatureCache(None, {})


def _read(path: Path) -> Tensor | None:
    """Features of an intact file; None if there is none."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            features: Tensor = file.get_tensor("features")
            expected = (file.metadata() or {}).get("digest")
    except (OSError, SafetensorError) as error:
        _log.warning("%s is damaged (%s): its features are computed again", path, error)
        return None
    if _digest(features) != expected:
        _log.warning("%s is damaged (its digest differs): its features are computed again", path)
        return None
    return features


def _write(path: Path, features: Tensor) -> None:
    features = features.cpu().contiguous()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other actors of this machine may be writing it too.
        write_shared(path, save({"features": features}, {"digest": _digest(features)}))
    except OSError as error:
        _log.warning("%s cannot be written (%s): later runs will compute these features again", path, error.strerror)


def _digest(features: Tensor) -> str:
    return hashlib.sha256(f"{tuple(features.shape)} {features.dtype}".encode() + features.numpy().tobytes()).hexdigest()
