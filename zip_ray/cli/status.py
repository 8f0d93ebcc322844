"""The progress of a run in another process, read from its folder or from a copy of it."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from zip_ray.config.budget import BudgetConfig
from zip_ray.config.secrets import without_secrets
from zip_ray.files import lock
from zip_ray.runs import next_command
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_record
from zip_ray.runs.folder import LOCK, run_config
from zip_ray.runs.progress import Summary
from zip_ray.runs.remote_copy import fetch
from zip_ray.tuning.events import EndEvent


def status(folder: Path) -> list[str]:
    """Lines that describe a run: whether it is running, its progress, its speed, and its actors.

    Raises:
        InputError: no run folder, or a damaged one.
    """
    budget = run_config(folder).budget
    if not (folder / RECORD).is_file():
        return [f"{folder}: {_start(folder)}"]
    finished, lines = _read(folder, budget)
    return [f"{folder}: {'finished' if finished else _state(folder)}", *lines]


def status_of_copy(uri: str) -> list[str]:
    """The same from the copy of a run folder (`output.remote`), which does not show whether a driver is running.

    Raises:
        InputError: no copy, or no access to it.
    """
    with TemporaryDirectory() as into:
        folder = fetch(uri, Path(into))
        finished, lines = _read(folder, run_config(folder).budget)
    unfinished = f"unfinished when last copied; if it is not running, continue with: {next_command.resume(uri)}"
    return [f"{without_secrets(uri)}: {'finished' if finished else unfinished}", *lines]


def _read(folder: Path, budget: BudgetConfig) -> tuple[bool, list[str]]:
    """Whether a run has finished, and lines about its progress."""
    summary, events = Summary(budget), read_record(folder / RECORD)
    for event in events:
        summary.event(event)
    return bool(events) and isinstance(events[-1], EndEvent), summary.lines()


def _state(folder: Path) -> str:
    """The state of an unfinished run."""
    silent = f"last event {time.time() - (folder / RECORD).stat().st_mtime:.0f} s ago"
    if _is_held(folder / LOCK):
        return f"running, {silent}"
    return (
        f"not running on this machine, {silent}; if not elsewhere either, continue with: {next_command.resume(folder)}"
    )


def _start(folder: Path) -> str:
    """The state of a run that has no record yet."""
    if _is_held(folder / LOCK):
        return "starting: hand-written prompts are tested before the first step"
    return "not started, and not running on this machine; if not elsewhere either, remove the folder and tune again"


def _is_held(path: Path) -> bool:
    """Whether a driver on this machine holds the lock of the folder."""
    if not path.exists():
        return False
    with path.open() as file:
        return not lock(file, shared=True)
