"""How a run is doing that goes on elsewhere: all from its folder, or from the copy of that."""

import fcntl
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from zip_ray.config.budget import BudgetConfig
from zip_ray.config.secrets import without_secrets
from zip_ray.runs import next_command
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_record
from zip_ray.runs.folder import LOCK, run_config
from zip_ray.runs.progress import Summary
from zip_ray.runs.remote_copy import fetch
from zip_ray.tuning.events import EndEvent


def status(folder: Path) -> list[str]:
    """Lines for a person: whether it goes on, how far it is, how fast, and who works on it.

    Raises:
        InputError: no run folder, or a damaged one.
    """
    budget = run_config(folder).budget
    if not (folder / RECORD).is_file():
        return [f"{folder}: {_start(folder)}"]
    finished, lines = _read(folder, budget)
    return [f"{folder}: {'finished' if finished else _state(folder)}", *lines]


def status_of_copy(uri: str) -> list[str]:
    """The same from the copy of a run folder (`output.remote`), which does not tell whether a driver is at work.

    Raises:
        InputError: no copy, or no access to it.
    """
    with TemporaryDirectory() as into:
        folder = fetch(uri, Path(into))
        finished, lines = _read(folder, run_config(folder).budget)
    unfinished = f"not finished when it was last copied; if it runs nowhere, continue with: {next_command.resume(uri)}"
    return [f"{without_secrets(uri)}: {'finished' if finished else unfinished}", *lines]


def _read(folder: Path, budget: BudgetConfig) -> tuple[bool, list[str]]:
    """Whether a run has come to its end, and the lines about how it went."""
    summary, events = Summary(budget), read_record(folder / RECORD)
    for event in events:
        summary.event(event)
    return bool(events) and isinstance(events[-1], EndEvent), summary.lines()


def _state(folder: Path) -> str:
    """Of a run that has not come to its end."""
    silent = f"its last word {time.time() - (folder / RECORD).stat().st_mtime:.0f} s ago"
    if _is_held(folder / LOCK):
        return f"running, {silent}"
    return (
        f"not running on this machine, {silent}; if nowhere else either, continue with: {next_command.resume(folder)}"
    )


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
