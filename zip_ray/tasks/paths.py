"""Image paths that a data file names: they must exist, below their root."""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from zip_ray.errors import InputError


def locate(root: Path, names: Iterable[str], origin: str) -> list[str]:
    """The paths of the images called `names` below `root`, in their order.

    The root itself may be a link (CoOp's instructions suggest it); nothing below it may lead out of it.

    Raises:
        InputError: a path leads out of the root, or an image is missing.
    """
    home = os.path.realpath(root)
    real_folder = cache(os.path.realpath)  # a folder holds many images, and looking up a path is slow
    paths = []
    for name in names:
        folder, file = os.path.split(os.path.join(home, name))
        path = os.path.join(real_folder(folder), file)
        real = os.path.realpath(path) if file in ("", ".", "..") or os.path.islink(path) else path
        if os.path.commonpath([home, real]) != home:
            raise InputError(f"{origin}: '{name}' leads out of '{root}': copy the image into it")
        if not os.path.isfile(real):
            raise InputError(f"{origin}: '{name}' is not in '{root}': add the image, or take it out of the list")
        paths.append(path)
    return paths
