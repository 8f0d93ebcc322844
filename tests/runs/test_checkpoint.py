"""Checkpoints: written completely or not at all, exact, and damage is reported."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.processes import wait_for
from zip_ray import files
from zip_ray.errors import InputError
from zip_ray.optimizers import OptimizerState
from zip_ray.runs.checkpoint import CheckpointWriter, load_checkpoint, save_checkpoint
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.state import Best, RunState
from zip_ray.tuning.trend import Trend


def make_state(step: int = 7, best: bool = True) -> RunState:
    rng = np.random.default_rng(step)
    memory = {"momentum": rng.standard_normal(40), "losses": rng.random((3, 4))}
    return RunState(
        OptimizerState(rng.standard_normal(40), step, 2, memory),
        5 * step + 3,
        Account(issued=80, completed=70, charged=70, wasted=10),
        seconds=12.3456789,
        nonfinite_results=1,
        validated_step=5,
        accuracy=0.625,
        best=Best(0.75, 0.5, 3, rng.standard_normal(40)) if best else None,
        trend=Trend().after(1, 1.5).after(2, 1.25),
    )


def assert_same(one: RunState, other: RunState) -> None:
    np.testing.assert_array_equal(one.optimizer.w, other.optimizer.w)
    assert one.optimizer.memory.keys() == other.optimizer.memory.keys()
    for name, tensor in one.optimizer.memory.items():
        np.testing.assert_array_equal(tensor, other.optimizer.memory[name])
    for name in ("steps", "nonfinite_streak"):
        assert getattr(one.optimizer, name) == getattr(other.optimizer, name)
    for name in ("asked", "account", "seconds", "nonfinite_results", "validated_step", "trend"):
        assert getattr(one, name) == getattr(other, name)
    np.testing.assert_equal(one.accuracy, other.accuracy)
    assert (one.best is None) == (other.best is None)
    if one.best and other.best:
        np.testing.assert_array_equal(one.best.w, other.best.w)
        assert (one.best.accuracy, one.best.step) == (other.best.accuracy, other.best.step)


@pytest.mark.parametrize("best", [True, False])
def test_comes_back_bit_for_bit(tmp_path: Path, best: bool) -> None:
    save_checkpoint(tmp_path / "c", make_state(best=best))
    assert_same(load_checkpoint(tmp_path / "c"), make_state(best=best))


def test_fresh_state_comes_back(tmp_path: Path) -> None:
    state = RunState(OptimizerState(np.zeros(3)))
    save_checkpoint(tmp_path / "c", state)
    assert_same(load_checkpoint(tmp_path / "c"), state)


def test_every_truncation_and_flipped_number_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, make_state())
    whole = path.read_bytes()
    for length in [0, 7, 8, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"damaged checkpoint .*start a new run, or restore"):
            load_checkpoint(path)
    for offset in (1, 300, 900):
        path.write_bytes(whole[:-offset] + bytes([whole[-offset] ^ 1]) + whole[len(whole) - offset + 1 :])
        with pytest.raises(InputError, match="do not match its digest"):
            load_checkpoint(path)
    head, field, tail = whole.partition(rb"charged\": ")
    path.write_bytes(head + field + bytes([tail[0] ^ 1]) + tail[1:])  # another digit
    with pytest.raises(InputError, match="do not match its digest"):
        load_checkpoint(path)


def test_missing_and_newer_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none")
    save_checkpoint(tmp_path / "c", make_state())
    data = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(data.replace(rb"schema_version\": 4", rb"schema_version\": 9"))
    with pytest.raises(InputError, match="of schema 9, this version reads 4"):
        load_checkpoint(tmp_path / "c")


def test_a_crash_while_writing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "c", make_state(1))

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "c", make_state(2))
    assert_same(load_checkpoint(tmp_path / "c"), make_state(1))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_writer_writes_the_newest_and_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = CheckpointWriter(tmp_path / "c")
    for step in range(20):
        writer.write(make_state(step))
    writer.close()
    assert_same(load_checkpoint(tmp_path / "c"), make_state(19))

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", crash)
    writer = CheckpointWriter(tmp_path / "c")
    for step in range(30, 33):
        writer.write(make_state(step))
        wait_for(lambda: writer._waiting is None)
    writer.close()
    assert caplog.text.count("No space left on device; the previous one is kept") == 1
    assert_same(load_checkpoint(tmp_path / "c"), make_state(19))
