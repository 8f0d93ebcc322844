"""Files that are written whole or not at all, and those that travel in the package."""

import errno
import fcntl
import functools
import logging
import os
from importlib import resources
from pathlib import Path
from typing import IO

PARTIAL = ".partial"
"""Suffix of a file that is not complete yet."""
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY}
"""What file systems without locks or without fsync report (Lustre, NFS, CIFS, some of FUSE)."""
_log = logging.getLogger(__name__)


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
            flush_to_disk(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        flush_to_disk(folder)  # the rename itself must survive a power cut
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


def flush_to_disk(descriptor: int) -> None:
    """Wait until a file or folder is on disk; a file system that cannot do that is reported once.

    Raises:
        OSError: the disk is full or broken.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _warn_once("a file system here does not support fsync: after a power cut, the last files may be lost")


def try_lock(file: IO[str], kind: int) -> bool | None:
    """Lock an open file without waiting; it is unlocked when it is closed.

    Args:
        file: open for writing if `kind` is LOCK_EX.
        kind: LOCK_EX or LOCK_SH of `fcntl`.

    Returns:
        Whether it is locked now; False = another process has locked it, None = the file system has no locks.

    Raises:
        OSError: the file system reports another error.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}:
            return False
        if error.errno not in _UNSUPPORTED:
            raise
        return None
    return True


def warn_of_no_locks() -> None:
    """Say, once, that two drivers could write to one folder."""
    _warn_once("a file system here has no locks: make sure that no other process uses the same output folder")


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning(message)
