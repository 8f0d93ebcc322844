"""How a run is doing that goes on elsewhere: all from its folder."""

import fcntl
import time
from pathlib import Path

from zip_ray.progress import Summary
from zip_ray.record import FILE_NAME as RECORD
from zip_ray.record import read_record
from zip_ray.run_folder import LOCK, run_config


def status(folder: Path) -> list[str]:
    """Lines for a person: whether it goes on, how far it is, how fast, and who works on it.

    Raises:
        InputError: no run folder, or a damaged one.
    """
    summary = Summary(run_config(folder).budget)
    if not (folder / RECORD).is_file():
        return [f"{folder}: {_start(folder)}"]
    events = read_record(folder / RECORD)
    for event in events:
        summary.event(event)
    return [f"{folder}: {_state(folder, [str(event['event']) for event in events])}", *summary.lines()]


def _state(folder: Path, kinds: list[str]) -> str:
    if "end" in kinds:
        return "finished"
    silent = f"its last word {time.time() - (folder / RECORD).stat().st_mtime:.0f} s ago"
    if _is_held(folder / LOCK):
        return f"running, {silent}"
    return f"not running on this machine, {silent}; if nowhere else either, go on with: run.py resume {folder}"


def _start(folder: Path) -> str:
    """Of a run that has no record yet."""
    if _is_held(folder / LOCK):
        return "starting: hand-written prompts are tested before the first step"
    return "not begun, and not running on this machine; if nowhere else either, remove the folder and tune anew"


def _is_held(lock: Path) -> bool:
    """Whether a driver that this machine can see holds the folder."""
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
