"""The copy of a run folder on other storage: consistent at any moment, asynchronous, usable for a resume."""

import errno
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from tests.support.command_line import run
from tests.support.configs import zip_config
from tests.support.fakes import FakeScorer
from tests.support.paths import ROOT
from tests.support.processes import HANG_SECONDS, wait_for
from zip_ray.cli.status import status_of_copy
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.checkpoint import load_checkpoint
from zip_ray.runs.lifecycle import resume, tune
from zip_ray.runs.remote_copy import RemoteCopy, fetch, require_free

URI = "memory://bucket/runs/first"


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("zip_ray.runs.remote_copy.COPY_SECONDS", 0.02)
    found = fsspec.filesystem("memory")
    yield found
    found.store.clear()
    found.pseudo_dirs[:] = [""]


def configured(folder: Path, **output: Any) -> Config:
    sections = {
        "prompt": {"intrinsic_dimension": 8, "rank": 2},
        "optimizer": {"method": "spsa", "step_size": 0.3},
        "budget": {"queries": 307},
        "output": {"dir": str(folder), "checkpoint_every_steps": 3, **output},
        "tracking": {"enabled": False},
    }
    return zip_config(sections, "test")


def open_pool(_: Config) -> InProcessPool:
    return InProcessPool(FakeScorer)


def never() -> bool:
    return False


def test_a_run_goes_on_elsewhere_from_its_copy(tmp_path: Path) -> None:
    looks = iter(range(10**6))
    cut = tune(configured(tmp_path / "cut", remote=URI), open_pool, lambda: next(looks) > 60)
    assert not cut.outcome.finished
    head, *lines = status_of_copy(URI)
    assert head.startswith(f"{URI}: unfinished when last copied")
    assert lines[0].startswith(f"{cut.outcome.state.account.charged}/")
    folder = fetch(URI, tmp_path / "elsewhere")
    assert folder == tmp_path / "elsewhere" / "first"
    end = resume(folder, configured(tmp_path / "cut", remote=URI), open_pool, never)
    straight = tune(configured(tmp_path / "straight"), open_pool, never)
    np.testing.assert_array_equal(end.outcome.state.optimizer.w, straight.outcome.state.optimizer.w)
    assert status_of_copy(URI)[0] == f"{URI}: finished"
    copy = fetch(URI, tmp_path / "at the end")
    assert {path.name for path in copy.iterdir()} == {path.name for path in folder.iterdir()}
    for path in copy.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_the_record_is_copied_before_the_checkpoint_that_it_goes_with(tmp_path: Path, storage: Any) -> None:
    order: list[str] = []
    put = storage.mv
    (tmp_path / CHECKPOINT).write_bytes(b"1")
    (tmp_path / "metrics.jsonl").write_bytes(b"1")
    copy = RemoteCopy(tmp_path, URI)

    def watch(_: str, name: str) -> None:
        order.append(Path(name).name)
        put(_, name)

    copy._storage.mv, before = watch, copy._storage.mv
    try:
        copy.start()
        assert copy.close(HANG_SECONDS)
    finally:
        copy._storage.mv = before
    assert order == ["metrics.jsonl", CHECKPOINT]


def test_the_record_is_copied_with_a_new_checkpoint_and_at_the_end(tmp_path: Path, storage: Any) -> None:
    def change(name: str, data: bytes) -> None:
        (tmp_path / name).write_bytes(data)

    def copied() -> bytes:
        return bytes(storage.cat_file(f"{URI}/metrics.jsonl"))

    change(CHECKPOINT, b"1")
    change("metrics.jsonl", b"1")
    copy = RemoteCopy(tmp_path, URI)
    copy.start()
    wait_for(lambda: storage.exists(f"{URI}/{CHECKPOINT}"))
    change("metrics.jsonl", b"12")
    change("config.yaml", b"")
    wait_for(lambda: storage.exists(f"{URI}/config.yaml"))
    change("config.yaml", b"a later look")
    wait_for(lambda: storage.cat_file(f"{URI}/config.yaml") == b"a later look")
    assert copied() == b"1", "it has changed alone"
    change(CHECKPOINT, b"12")
    wait_for(lambda: storage.cat_file(f"{URI}/{CHECKPOINT}") == b"12")
    assert copied() == b"12"
    change("metrics.jsonl", b"123")
    assert copy.close(HANG_SECONDS)
    assert copied() == b"123"


def test_a_long_record_is_copied_again_only_when_it_has_grown(tmp_path: Path, storage: Any) -> None:
    """A checkpoint is copied only after its record: the copy can be resumed at any moment."""
    copies, record = 0, tmp_path / "metrics.jsonl"
    copy = RemoteCopy(tmp_path, URI)
    for checkpoint in range(1000):
        with record.open("ab") as file:
            file.write(b"x" * 100)
        (tmp_path / CHECKPOINT).write_text(f"{checkpoint:04}")
        copy._sync(last=checkpoint == 999)
        copied = storage.cat_file(f"{URI}/metrics.jsonl")
        copies += len(copied) == record.stat().st_size
        assert len(copied) >= 0.99 * record.stat().st_size - 100
        assert len(copied) == 100 * (int(storage.cat_file(f"{URI}/{CHECKPOINT}")) + 1)
    assert copies < 400
    assert len(copied) == 100_000


def test_storage_that_fails_or_hangs_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "no such bucket")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", refuse)
    assert tune(configured(tmp_path / "one", remote=URI), open_pool, never).outcome.finished
    assert caplog.text.count("cannot be written (OSError: [Errno 5] no such bucket); the run continues") == 1
    assert "is incomplete" in caplog.text
    release = threading.Event()
    monkeypatch.setattr(
        "fsspec.implementations.memory.MemoryFileSystem.pipe_file", lambda *_, **__: release.wait(HANG_SECONDS)
    )
    monkeypatch.setattr("zip_ray.runs.lifecycle.REMOTE_SECONDS", 0.1)
    assert tune(configured(tmp_path / "two", remote=URI), open_pool, never).outcome.finished
    release.set()
    for thread in threading.enumerate():
        if thread.name == "remote":  # the thread shares the storage of the tests
            thread.join(HANG_SECONDS)


def test_places_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(configured(tmp_path / "run", remote=URI), open_pool, never)
    with pytest.raises(InputError, match=rf"^output.remote: '{URI}' holds a run: choose another"):
        tune(configured(tmp_path / "other", remote=URI), open_pool, never)
    with pytest.raises(InputError, match=r"^output.remote: 'nowhere://x' cannot be opened"):
        require_free("nowhere://x")
    with pytest.raises(InputError, match=r"^memory://nothing: no run can be fetched"):
        fetch("memory://nothing", tmp_path)
    with pytest.raises(InputError, match=r"first: exists, and"):
        fetch(URI, fetch(URI, tmp_path).parent)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"needs fsspec: `pip install"):
        require_free(URI)


def test_resume_takes_a_uri(tmp_path: Path) -> None:
    remote = f"file://{tmp_path}/store/first"
    small = ("--budget.queries=40", "--tracking.no-enabled", "--cluster.pool=in-process")
    run(
        tmp_path,
        "tune",
        str(ROOT / "configs" / "methods" / "zip-tuned.yaml"),
        *small,
        "--output.dir=run",
        f"--output.remote={remote}",
    )
    assert "80 queries" in run(tmp_path, "resume", remote, "--budget.queries=80").stdout
    assert f"{remote}: finished" in run(tmp_path, "status", remote).stdout
    assert load_checkpoint(tmp_path / "store" / "first" / CHECKPOINT).account.charged == 80
