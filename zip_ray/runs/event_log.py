"""The run's record: JSON lines in the run folder, written first and believed first."""

import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path

from zip_ray.errors import InputError
from zip_ray.files import write_whole

FILE_NAME = "metrics.jsonl"
Event = dict[str, object]
_log = logging.getLogger(__name__)


class Record:
    """An append-only file of events, one JSON object a line.

    Every event has `event`, `step`, `queries` and `seconds`. A number that is not finite becomes null.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, making it if need be."""
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._waiting = b""
        """What a full disk has refused: it comes before the next line, from the very byte on."""

    def append(self, event: Event) -> None:
        """Give one line to the operating system; does not wait for the disk. What is refused is tried again later."""
        refused_before = bool(self._waiting)
        self._waiting += _line(event)
        try:
            self._write()
        except OSError as error:
            if not refused_before:
                _log.warning("%s cannot be written: %s; the run goes on, and tries again", self._path, error)

    def close(self) -> None:
        """Have the lines on disk, and close the file. What a full disk still refuses is lost, and logged."""
        try:
            self._write()
            os.fsync(self._file)
        except OSError as error:
            _log.warning("%s: %d bytes were not written: %s", self._path, len(self._waiting), error)
        os.close(self._file)

    def _write(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[os.write(self._file, self._waiting) :]


def read_record(path: Path) -> list[Event]:
    """The events of a record; a last line that was cut off by a crash is left out.

    Raises:
        InputError: no such file, or a damaged line before the last.
    """
    return list(each_event(path))


def each_event(path: Path) -> Iterator[Event]:
    """The same, one after another: a long record need not be held whole.

    Raises:
        InputError: as `read_record`, where it comes to it.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield _event(path, number, line)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_from(path: Path, offset: int) -> tuple[list[Event], int]:
    """The events behind a byte offset, and the offset behind them; a last line that is not complete is left out.

    Raises:
        InputError: no such file, or a damaged line.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError as error:
        raise _unreadable(path, error) from error
    *lines, torn = data.split(b"\n")
    events = [_event(path, number, line) for number, line in enumerate(lines, start=1)]
    return events, offset + len(data) - len(torn)


def cut_record(path: Path, step: int, validated_step: int) -> list[Event]:
    """Drop what a run resumed from a checkpoint writes again: events after it, the end, and a torn last line.

    Args:
        path: the record.
        step: step of the checkpoint.
        validated_step: step of the latest validation that the checkpoint knows.

    Returns:
        The dropped steps.

    Raises:
        InputError: as `read_record`.
    """
    events = read_record(path)
    last = {"start": 0, "step": step, "pool": step, "validation": validated_step}
    kept = [event for event in events if _step(event) <= last.get(str(event["event"]), -1)]
    write_whole(path, b"".join(_line(event) for event in kept))
    return [event for event in events if event["event"] == "step" and _step(event) > step]


def queries(event: Event) -> int:
    """Queries charged when an event was written."""
    return _whole(event, "queries")


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        event: Event = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}: line {number} is damaged ({error}): restore the file, or tune anew") from error
    return event


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {error.strerror}: give the folder of a run that `run.py tune` made")


def _step(event: Event) -> int:
    return _whole(event, "step")


def _whole(event: Event, key: str) -> int:
    value = event[key]
    assert isinstance(value, int)
    return value


def _line(event: Event) -> bytes:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}
    return (json.dumps(finite, allow_nan=False) + "\n").encode()
