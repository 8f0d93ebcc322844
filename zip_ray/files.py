"""Files that are written whole or not at all, and those that travel in the package."""

import os
from importlib import resources
from pathlib import Path

PARTIAL = ".partial"
"""Suffix of a file that is not complete yet."""


def packaged(name: str) -> Path:
    """A file or folder of the package, such as `configs/methods/zip.yaml`; it need not exist."""
    return Path(str(resources.files("zip_ray"))) / name


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` with `data`: after a crash at any point it holds either the old bytes or all of the new ones.

    Raises:
        OSError: the folder is missing, read-only or full; the old file is untouched.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def write_shared(path: Path, data: bytes) -> None:
    """`write_whole` where other processes may be writing the same bytes at the same time.

    Raises:
        OSError: as `write_whole`.
    """
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    write_whole(mine, data)
    os.replace(mine, path)
