"""What of a config may change when a run that was started goes on."""

from pathlib import Path
from typing import Any

from zip_ray.config import SCHEDULED, Config, validate
from zip_ray.errors import InputError
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import Event

RESUMABLE = {"budget", "cluster", "tracking"}
"""Sections of the config that may change on resume: they leave the trajectory alone, `KEPT` aside."""
KEPT = ("cluster", "threads_per_actor")
ASYNC_RESUMABLE = (
    ("optimizer", "in_flight"),
    ("optimizer", "max_staleness"),
    ("model", "parallel"),
    ("model", "pairs_per_pass"),
)
"""What may change besides where no trajectory is promised: it is what other actors than before may ask for."""


def require_same(folder: Path, start: Event, config: Config) -> None:
    """Refuse a config that would change the trajectory of a run that has been started.

    Raises:
        InputError: names the field.
    """
    was, now = _trajectory(started_with(folder, start)), _trajectory(config)
    for section in was:
        if was[section] != now[section]:
            fields = was[section] if isinstance(was[section], dict) else {}
            field = next((f".{name}" for name in fields if was[section][name] != now[section][name]), "")
            raise InputError(
                f"{section}{field}: differs from what {folder} was started with: only {', '.join(_may_change(config))} "
                f"(without {'.'.join(KEPT)}) may change on resume; tune anew for the rest"
            )


def require_same_schedule(folder: Path, start: Event, config: Config) -> None:
    """Refuse another budget where the learning rate falls over it: it is part of the trajectory.

    Raises:
        InputError: the budget allows another number of steps.
    """
    planned = started_with(folder, start).schedule_steps
    if config.optimizer.method in SCHEDULED and config.schedule_steps != planned:
        raise InputError(
            f"budget: allows {config.schedule_steps} steps, {folder} was started with {planned}, over which the "
            f"learning rate of optimizer.method {config.optimizer.method} falls: keep the budget, or tune anew"
        )


def started_with(folder: Path, start: Event) -> Config:
    """The config that a run was started with; a field that is newer than the run has its default there."""
    tree: Any = start["config"]
    return validate(tree, str(folder / RECORD))


def _may_change(config: Config) -> list[str]:
    """Names of all that may, `KEPT` aside."""
    fields = ASYNC_RESUMABLE if config.optimizer.mode == "async" else ()
    return [*sorted(RESUMABLE), *map(".".join, fields)]


def _trajectory(config: Config) -> dict[str, Any]:
    """What of a config the trajectory depends on."""
    section, field = KEPT
    tree = config.model_dump(mode="json")
    tree["model"] |= {"parallel": config.parallel, "pairs_per_pass": config.pairs_per_pass}  # said or not: the same
    parts = {name: part for name, part in tree.items() if name not in RESUMABLE}
    if config.optimizer.mode == "async":
        for free, free_field in ASYNC_RESUMABLE:
            parts[free] = {name: value for name, value in parts[free].items() if name != free_field}
    return {**parts, section: {field: tree[section][field]}}
