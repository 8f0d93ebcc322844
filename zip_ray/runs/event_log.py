"""The record of a run: JSON lines in the run folder. It is written first, and is authoritative."""

import json
import logging
import math
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zip_ray.errors import InputError
from zip_ray.files import sync, write_whole
from zip_ray.tuning.events import (
    ChosenEvent,
    EndEvent,
    Event,
    PoolEvent,
    ReadoutEvent,
    StallEvent,
    StartEvent,
    StepEvent,
    ValidationEvent,
)

FILE_NAME = "metrics.jsonl"
KINDS: dict[str, type[Event]] = {
    "start": StartEvent,
    "step": StepEvent,
    "validation": ValidationEvent,
    "pool": PoolEvent,
    "stall": StallEvent,
    "chosen": ChosenEvent,
    "readout": ReadoutEvent,
    "end": EndEvent,
}
"""By their names in the file."""
_WORDS = {kind: word for word, kind in KINDS.items()}
_ADAPTERS: dict[str, TypeAdapter[Any]] = {word: TypeAdapter(kind) for word, kind in KINDS.items()}
_log = logging.getLogger(__name__)


def as_json(event: Event) -> bytes:
    """An event as one line: its kind and its fields. A number that is not finite becomes null."""
    values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(event).items()}
    return (json.dumps({"event": _WORDS[type(event)], **values}, allow_nan=False) + "\n").encode()


def from_json(line: bytes) -> Event:
    """The event of a line. Null becomes NaN where a float is expected.

    Raises:
        ValueError: no JSON, no event, or a field that is missing or of another type; the message is one line.
    """
    values = json.loads(line)
    word = values.get("event") if isinstance(values, dict) else None
    if not isinstance(word, str) or word not in KINDS:
        raise ValueError("no event")
    for field in fields(KINDS[word]):
        if field.type is float and values.get(field.name, 0.0) is None:
            values[field.name] = math.nan
    try:
        event: Event = _ADAPTERS[word].validate_python(values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    return event


class Record:
    """An append-only file of events, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it."""
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._waiting = b""
        """Bytes that a full disk did not accept; they are written before the next line."""

    def append(self, event: Event) -> None:
        """Pass one line to the operating system, without waiting for the disk. A failed write is retried later."""
        refused_before = bool(self._waiting)
        self._waiting += as_json(event)
        try:
            self._write()
        except OSError as error:
            if not refused_before:
                _log.warning("%s cannot be written: %s; the run continues, and retries", self._path, error)

    def close(self) -> None:
        """Flush the lines to disk, and close the file. Lines that a full disk still refuses are lost, and logged."""
        try:
            self._write()
            sync(self._file)
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
    """The same, one by one, without reading the whole record into memory.

    Raises:
        InputError: as `read_record`, when it gets there.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield _event(path, number, line)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_start(folder: Path) -> StartEvent:
    """The first event of a run.

    Raises:
        InputError: there is no record, or it does not open with one.
    """
    start = next(each_event(folder / FILE_NAME), None)
    if not isinstance(start, StartEvent):
        raise InputError(f"{folder / FILE_NAME}: does not open with the start of a run: restore it, or tune again")
    return start


def read_end(folder: Path) -> EndEvent | None:
    """The last event of a run; None while it has not come to its end, or not begun.

    Raises:
        InputError: a damaged record.
    """
    path = folder / FILE_NAME
    last = deque(each_event(path), maxlen=1) if path.is_file() else ()
    return last[0] if last and isinstance(last[0], EndEvent) else None


def read_from(path: Path, offset: int) -> tuple[list[Event], int]:
    """The events after a byte offset, and the offset after them; an incomplete last line is left out.

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


def cut_record(path: Path, step: int, validated_step: int) -> list[StepEvent | ReadoutEvent]:
    """Drop what a run that is resumed from a checkpoint writes again: later events, the end, and a torn last line.

    Args:
        path: the record.
        step: step of the checkpoint.
        validated_step: step of the latest validation in the checkpoint.

    Returns:
        The dropped steps, and the dropped readout.

    Raises:
        InputError: as `read_record`.
    """
    events = read_record(path)
    made = dict.fromkeys((StepEvent, PoolEvent, StallEvent, ChosenEvent), step)
    last = {StartEvent: 0, ValidationEvent: validated_step, **made}
    kept = [event for event in events if event.step <= last.get(type(event), -1)]
    write_whole(path, b"".join(as_json(event) for event in kept))
    return [e for e in events if isinstance(e, ReadoutEvent) or (isinstance(e, StepEvent) and e.step > step)]


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        return from_json(line)
    except ValueError as error:
        raise InputError(f"{path}: line {number} is damaged ({error}): restore the file, or tune again") from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {error.strerror}: give the folder of a run that `zip-ray tune` made")
