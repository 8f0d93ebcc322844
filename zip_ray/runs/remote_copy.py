"""A copy of the run folder on any storage that fsspec supports (S3, GCS, HDFS, ...), updated while it runs."""

import logging
import threading
from pathlib import Path
from typing import Any

from zip_ray.config.secrets import without_secrets
from zip_ray.errors import InputError, one_line
from zip_ray.files import PARTIAL, write_whole
from zip_ray.runs import next_command
from zip_ray.runs.background import join
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.event_log import FILE_NAME as RECORD

COPY_SECONDS = 5.0
"""Between two checks for changes."""
GROWTH = 0.01
"""Growth of the record, as a share of the run, before it is copied again, and thus the largest lag of the copy. Object
storage takes whole files, so copying a long record with every checkpoint would take ever longer."""
_log = logging.getLogger(__name__)


class RemoteCopy:
    """Copies the changes in a run folder, in a background thread.

    The checkpoint is read before the record and written after it, so that a run can be resumed from the copy at any
    moment. Both are copied only when the record has grown by `GROWTH`, and at the end.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        """Prepare the copy.

        Args:
            folder: the run folder, of files only.
            uri: the folder of the copy.

        Raises:
            InputError: fsspec or its driver for this kind of storage is not installed.
        """
        self._folder, self._shown = folder, without_secrets(uri)
        self._storage, self._path = _open(uri)
        self._sent: dict[str, tuple[int, int]] = {}
        """Size and time of change of each file when it was copied."""
        self._closing = threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._run, name="remote", daemon=True)

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the rest is copied; whether the copy is complete."""
        self._closing.set()
        join(self._thread, timeout, f"copying the run to {self._shown}")
        if not self._complete:
            _log.warning("output.remote: the copy at %s is incomplete, %s is complete", self._shown, self._folder)
        return self._complete

    def _run(self) -> None:
        warned = False
        while True:
            last = self._closing.is_set()
            try:
                self._sync(last)
                self._complete = last
            except Exception as error:  # each storage raises exceptions of its own; the run continues
                if not warned:
                    _log.warning(
                        "output.remote: %s cannot be written (%s); the run continues",
                        self._shown,
                        without_secrets(one_line(error)),
                    )
                warned = True
            if last:
                return
            self._closing.wait(COPY_SECONDS)

    def _sync(self, last: bool) -> None:
        checkpoint = self._changed(self._folder / CHECKPOINT) if last or self._has_grown() else None
        later = {CHECKPOINT} if checkpoint or last else {CHECKPOINT, RECORD}
        for path in sorted(self._folder.iterdir()):
            if path.name not in later and path.suffix != PARTIAL:
                self._put(path.name, self._changed(path))
        self._put(CHECKPOINT, checkpoint)

    def _has_grown(self) -> bool:
        record, (sent, _) = self._folder / RECORD, self._sent.get(RECORD, (0, 0))
        return not record.is_file() or record.stat().st_size >= (1 + GROWTH) * sent

    def _changed(self, path: Path) -> tuple[bytes, tuple[int, int]] | None:
        """Content and stamp of a file that has changed since it was copied, else None."""
        if not path.is_file():
            return None
        state = path.stat()
        stamp = (state.st_size, state.st_mtime_ns)
        return None if self._sent.get(path.name) == stamp else (path.read_bytes(), stamp)

    def _put(self, name: str, found: tuple[bytes, tuple[int, int]] | None) -> None:
        """Copy one file, under another name until it is complete."""
        if found is None:
            return
        data, stamp = found
        self._storage.makedirs(self._path, exist_ok=True)
        self._storage.pipe_file(f"{self._path}/{name}{PARTIAL}", data)
        self._storage.mv(f"{self._path}/{name}{PARTIAL}", f"{self._path}/{name}")
        self._sent[name] = stamp


def require_free(uri: str) -> None:
    """Refuse a URI that already holds a run.

    Raises:
        InputError: it does, or it cannot be read.
    """
    storage, path = _open(uri)
    uri = without_secrets(uri)
    try:
        taken = storage.exists(f"{path}/{CHECKPOINT}")
    except Exception as error:
        raise InputError(
            f"output.remote: '{uri}' cannot be read ({without_secrets(one_line(error))}): check it and its access"
        ) from error
    if taken:
        raise InputError(
            f"output.remote: '{uri}' holds a run: choose another, or continue it: {next_command.resume(uri)}"
        )


def fetch(uri: str, into: Path) -> Path:
    """Download a copy of a run folder into `into`, under its own name; the folder.

    Raises:
        InputError: no copy, no access to it, or a folder of that name is there.
    """
    storage, path = _open(uri)
    uri = without_secrets(uri)
    folder = into / Path(path).name
    if folder.exists():
        raise InputError(f"{folder}: exists, and '{uri}' would be fetched to it: resume {folder}, or move it away")
    try:
        names = [Path(name).name for name in storage.ls(path, detail=False)]
        files = {name: storage.cat_file(f"{path}/{name}") for name in names if not name.endswith(PARTIAL)}
    except Exception as error:
        raise InputError(
            f"{uri}: no run can be fetched ({without_secrets(one_line(error))}): give the output.remote of one"
        ) from error
    if CHECKPOINT not in files:
        raise InputError(f"{uri}: holds no {CHECKPOINT}: give the output.remote of a run")
    folder.mkdir(parents=True)
    for name, data in files.items():
        write_whole(folder / name, data)
    return folder


def _open(uri: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise InputError("output.remote: needs fsspec: `pip install 'zip-ray[remote]'`") from error
    try:
        storage, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"output.remote: '{without_secrets(uri)}' cannot be opened ({without_secrets(one_line(error))})"
        ) from error
    return storage, str(path).rstrip("/")
