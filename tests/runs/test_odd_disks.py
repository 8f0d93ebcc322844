"""File systems without locks or without fsync: a run goes on, with one warning."""

import errno
import os
from pathlib import Path

import pytest

from zip_ray import files
from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.runs.folder import locked


@pytest.fixture(autouse=True)
def nothing_said_yet() -> None:
    files._warn_once.cache_clear()


def failing(number: int):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_run_goes_on_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr("fcntl.flock", failing(number))
    for _ in range(2):
        with locked(tmp_path):
            pass
    (record,) = caplog.records
    assert "has no locks" in record.getMessage()


def test_a_lock_of_another_process_is_still_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", failing(errno.EWOULDBLOCK))
    with pytest.raises(InputError, match="in use by another process"), locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_without_fsync_files_are_written_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr("os.fsync", failing(number))
    for data in (b"one", b"two"):
        write_whole(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == b"two"
    (record,) = caplog.records
    assert "cannot sync to disk" in record.getMessage()


def test_a_full_disk_is_no_missing_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", b"one")
