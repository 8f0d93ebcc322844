"""File systems without locks or fsync (Lustre, NFS, CIFS, FUSE): a run goes on, and says so once."""

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.events import step_event
from zip_ray import files
from zip_ray.cli.status import status
from zip_ray.config.tree import Config
from zip_ray.errors import InputError, OutputError
from zip_ray.files import write_whole
from zip_ray.runs.event_log import Record
from zip_ray.runs.folder import locked, write_config


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, "injected")

    return fail


@pytest.fixture(autouse=True)
def nothing_reported_yet() -> None:
    files._warn_once.cache_clear()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    for _ in range(2):
        with locked(tmp_path):
            pass
    assert caplog.text.count("has no locks") == 1


def test_a_lock_that_fails_is_not_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(OutputError, match="injected: it cannot be locked"), locked(tmp_path):
        pass


def test_a_lock_that_is_held(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InputError, match="in use by another process"), locked(tmp_path):
        pass


def test_status_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, Config())
    record = Record(tmp_path / "metrics.jsonl")
    record.append(step_event(1))
    record.close()
    (tmp_path / "lock").touch()
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    assert "whether it is running is unknown" in status(tmp_path)[0]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_no_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr(files.os, "fsync", failing(number))
    write_whole(tmp_path / "a", b"1")
    write_whole(tmp_path / "a", b"2")
    record = Record(tmp_path / "metrics.jsonl")
    record.append(step_event(1))
    record.close()
    assert (tmp_path / "a").read_bytes() == b"2"
    assert [entry.message.count("does not support fsync") for entry in caplog.records] == [1]


def test_a_full_disk_is_still_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", b"1")
    monkeypatch.setattr(files.os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="injected"):
        write_whole(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
