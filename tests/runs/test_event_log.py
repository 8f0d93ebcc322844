"""The record: whole lines, a torn last line tolerated, other damage reported, truncated on resume."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import end_event, pool_event, readout_event, start_event, step_event, validation_event
from zip_ray.errors import InputError
from zip_ray.runs.event_log import Record, as_json, cut_record, from_json, read_from, read_record
from zip_ray.tuning.events import Event, StepEvent

EVENTS: list[Event] = [
    start_event(config={"a": [1, 2]}),
    *(step_event(k, seconds=k / 3) for k in range(1, 6)),
    end_event(5),
]


def write(path: Path, events: list[Event]) -> Path:
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


@pytest.mark.parametrize(
    "event",
    [
        start_event(),
        step_event(3, clipped=True),
        validation_event(0),
        pool_event(given_up=1, last_error="actor 2: killed"),
        pool_event(paces=(0.1, 0.4)),
        end_event(5),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_kind_of_event_comes_back(event: Event) -> None:
    line = as_json(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_json(line) == event


def test_numbers_that_json_has_not_become_null_and_come_back_as_nan() -> None:
    line = as_json(step_event(1, loss=float("nan"), gradient_norm=float("inf")))
    tree = json.loads(line)
    assert (tree["loss"], tree["gradient_norm"], tree["accuracy"]) == (None, None, 0.5)
    event = from_json(line)
    assert isinstance(event, StepEvent)
    assert math.isnan(event.loss)
    assert math.isnan(event.gradient_norm)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1, 2]", "no event"),
        (b'{"event": "party"}', "no event"),
        (b'{"event": ["step"]}', "no event"),
        (b'{"event": "validation", "step": 1, "queries": 10, "seconds": 0.5, "loss": 0.5}', "accuracy: Field required"),
        (b'{"event": "validation", "step": null, "queries": 1, "seconds": 1, "loss": 1, "accuracy": 1}', "step: Input"),
    ],
)
def test_a_line_that_is_no_event_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=rf"r: line 1 is damaged \({message}"):
        read_record(tmp_path / "r")


def test_damage_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "r", EVENTS)
    lines = path.read_bytes().split(b"\n")
    lines[2] = b'{"event": "st\x00'
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"r: line 3 is damaged"):
        read_record(path)


def test_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: No such file.*zip-ray tune"):
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


@pytest.mark.parametrize("step", [3, 5])
def test_cutting_drops_the_readout_and_says_so(tmp_path: Path, step: int) -> None:
    path = write(tmp_path / "r", [*EVENTS[:-1], readout_event(5), EVENTS[-1]])
    steps = [event for event in EVENTS if isinstance(event, StepEvent) and event.step > step]
    assert cut_record(path, step, 5) == [*steps, readout_event(5)]
    assert cut_record(path, step, 5) == []


def test_cutting_drops_a_validation_that_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    validation = validation_event(0)
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
    assert "No space left on device; the run continues" in caplog.text
