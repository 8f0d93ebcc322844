"""The record: lines whole, a torn end forgiven, damage elsewhere named, cut back on resume."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zip_ray.errors import InputError
from zip_ray.runs.event_log import Record, cut_record, read_from, read_record

EVENTS = [
    {"event": "start", "step": 0, "queries": 0, "seconds": 0.0, "config": {"a": [1, 2]}},
    *({"event": "step", "step": k, "queries": 10 * k, "seconds": k / 3, "loss": 1 / k} for k in range(1, 6)),
    {"event": "end", "step": 5, "queries": 50, "seconds": 2.0},
]


def write(path: Path, events: list) -> Path:
    record = Record(path)
    for event in events:
        record.append(event)
    record.close()
    return path


def test_reads_back_exactly(tmp_path: Path) -> None:
    assert read_record(write(tmp_path / "r", EVENTS)) == EVENTS


def test_appending_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "r", EVENTS[:3])
    assert read_record(write(tmp_path / "r", EVENTS[3:])) == EVENTS


@given(cut=st.integers(0, 10_000))
def test_any_crash_point_leaves_a_readable_prefix(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = write(tmp_path_factory.mktemp("r") / "r", EVENTS)
    data = path.read_bytes()
    path.write_bytes(data[: cut % (len(data) + 1)])
    events = read_record(path)
    assert events == EVENTS[: len(events)]
    assert len(events) == data[: cut % (len(data) + 1)].count(b"\n")


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    path = write(tmp_path / "r", EVENTS[:2])
    first, offset = read_from(path, 0)
    path.write_bytes(path.read_bytes() + b'{"event": "st')
    assert read_from(path, offset) == ([], offset)
    assert first == EVENTS[:2]


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    path = write(tmp_path / "r", [{"event": "step", "step": 1, "loss": float("nan"), "norm": float("inf")}])
    assert json.loads(path.read_text()) == {"event": "step", "step": 1, "loss": None, "norm": None}


def test_damage_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "r", EVENTS)
    lines = path.read_bytes().split(b"\n")
    lines[2] = b'{"event": "st\x00'
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"r: line 3 is damaged"):
        read_record(path)


def test_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: No such file.*run.py tune"):
        read_record(tmp_path / "none")


def test_cutting_drops_what_came_after_a_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path / "r", EVENTS)
    path.write_bytes(path.read_bytes() + b'{"torn')
    assert cut_record(path, 3, 0) == EVENTS[4:-1]
    assert read_record(path) == EVENTS[:4]
    assert cut_record(path, 3, 0) == []


def test_cutting_at_the_last_step_drops_the_end_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "r", EVENTS)
    assert cut_record(path, 5, 5) == []
    assert read_record(path) == EVENTS[:-1]


def test_cutting_drops_a_validation_that_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    validation = {"event": "validation", "step": 0, "queries": 0, "seconds": 0.0, "accuracy": 0.5}
    path = write(tmp_path / "r", [EVENTS[0], validation])
    cut_record(path, 0, 0)
    assert read_record(path) == [EVENTS[0], validation]
    cut_record(path, 0, -1)
    assert read_record(path) == [EVENTS[0]]


def test_what_a_full_disk_refuses_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = os.write
    room = 100

    def short(file: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        done = write(file, data[:room])
        room -= done
        return done

    monkeypatch.setattr("zip_ray.runs.event_log.os.write", short)
    record = Record(tmp_path / "r")
    for event in EVENTS[:3]:
        record.append(event)
    assert (tmp_path / "r").stat().st_size == 100, "the disk is full in the middle of a line"
    room = 10**6
    for event in EVENTS[3:]:
        record.append(event)
    record.close()
    assert read_record(tmp_path / "r") == EVENTS
    assert len(caplog.messages) == 1
    assert "No space left on device; the run goes on" in caplog.text
