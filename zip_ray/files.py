"""Files that are written whole or not at all, locks, and the files that travel in the package."""

import errno
import fcntl
import logging
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import IO, Any

PARTIAL = ".partial"
"""Suffix of a file that is not complete yet."""
NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of file systems (CIFS, some of FUSE) that do not offer fsync for a folder or file."""
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
            sync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        sync(folder)  # the rename itself must survive a power cut
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


def sync(descriptor: int) -> None:
    """Wait until a file, or the names in a folder, are on disk; where the file system offers no such thing, go on.

    Raises:
        OSError: the disk is full or faulty.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
        _warn_once(f"the file system cannot sync to disk ({error.strerror}): a power cut may lose the newest files")


def lock(file: IO[Any], shared: bool = False) -> bool:
    """Lock an open file until it is closed; whether no other process has it locked.

    Args:
        file: what is locked.
        shared: whether others may lock it so too.

    Returns:
        True also where the file system has no locks, which is logged.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # ENOSYS, ENOLCK, EOPNOTSUPP: Lustre and NFS mounted without locks
        _warn_once(f"the file system has no locks ({error.strerror}): do not use a run folder from two processes")
    return True


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)
