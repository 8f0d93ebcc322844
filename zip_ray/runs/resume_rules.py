"""The fields of a config that may change when a run is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zip_ray.config.reading import validate
from zip_ray.config.secrets import without_secrets
from zip_ray.config.served import ASKING, ServedConfig
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers.gauss_newton import GaussNewtonOptions
from zip_ray.protocol.facts import Facts
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.tuning.events import StartEvent
from zip_ray.tuning.state import RunState

RESUMABLE = ("budget", "cluster", "tracking")
"""Sections that may change on resume, because they do not affect the trajectory."""
RESUMABLE_ASYNC = (*RESUMABLE, "execution")
"""Further sections that may change in asynchronous mode, which guarantees no trajectory; the mode itself is fixed."""


def require_same(folder: Path, start: StartEvent, config: Config) -> None:
    """Refuse a config that would change the trajectory of a run that has been started.

    Raises:
        InputError: names the field.
    """
    before = started_with(folder, start)
    config = with_round_of(config, before)
    both_async = before.execution.mode == config.execution.mode == "async"
    may_change = RESUMABLE_ASYNC if both_async else RESUMABLE
    was, now = (without_secrets(one.model_dump(mode="json")) for one in (before, config))
    if isinstance(before.model, ServedConfig):
        for one in (was, now):
            one["model"] = {name: value for name, value in one["model"].items() if name not in ASKING}
    for section in was.keys() - set(may_change):
        if was[section] != now[section]:
            fields = was[section] if isinstance(was[section], dict) else {}
            field = next((f".{name}" for name in fields if was[section][name] != now[section].get(name)), "")
            raise InputError(
                f"{section}{field}: differs from what {folder} was started with: only {', '.join(may_change)} may "
                "change on resume; start a new run for the rest"
            )


def require_same_schedule(folder: Path, start: StartEvent, config: Config) -> None:
    """Refuse another budget where the learning rate falls over it: it is part of the trajectory.

    Raises:
        InputError: the budget allows another number of steps.
    """
    planned, now = (one.schedule_steps(start.images["train"]) for one in (started_with(folder, start), config))
    if now != planned:
        raise InputError(
            f"budget: allows {now} steps, {folder} was started with {planned}, over which the learning rate of "
            f"optimizer.method {config.optimizer.method} falls: keep the budget, or start a new run"
        )


def require_room(folder: Path, state: RunState, config: Config) -> None:
    """Refuse a budget that the run has exceeded already: what it charged would be more than the budget.

    Raises:
        InputError: names the limit and what has been used.
    """
    limit, used = config.budget.queries, state.account.charged
    if limit is not None and limit < used:
        raise InputError(f"budget.queries: {limit}: {folder} has used {used} already: give at least that many")


def require_whole_steps(folder: Path, state: RunState, config: Config) -> None:
    """Refuse a longer budget where the last step was cut short: an undisturbed run would have made a whole one.

    Raises:
        InputError: the budget has room for more queries.
    """
    limit = config.budget.queries
    more = limit is None or limit > state.account.charged
    if config.optimizer.cuts_last_step and state.asked % config.optimizer.asks_per_step and more:
        raise InputError(
            f"budget.queries: {folder} was to spend {state.account.charged} and made a part of a generation of the "
            "last ones: keep that budget, or start a new run"
        )


def require_same_images(folder: Path, start: StartEvent, facts: Facts) -> None:
    """Refuse to continue with other classes or images: the rows of the result would not be comparable.

    Raises:
        InputError: names what differs.
    """
    if not start.images_digest:
        return
    gone = [name for name in start.classnames if name not in facts.classnames]
    new = [name for name in facts.classnames if name not in start.classnames]
    odd = ", ".join([*(f"'{name}' is gone" for name in gone), *(f"'{name}' is new" for name in new)])
    counts = f"{_counts(start.images)} then, {_counts(facts.images)} now"
    if start.classnames != facts.classnames:
        differs = f"other classes ({odd or 'in another order'})"
    elif start.images != facts.images:
        differs = f"other images ({counts})"
    elif start.images_digest != facts.images_digest:
        differs = f"other images ({counts}, some of them replaced)"
    else:
        return
    raise InputError(f"task: has {differs} than when {folder} was started: restore them, or start a new run")


def _counts(images: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {part}" for part, count in images.items())


def started_with(folder: Path, start: StartEvent) -> Config:
    """The config that a run was started with; a field that is newer than the run has its default there."""
    return validate(start.config, str(folder / RECORD))


def with_round_of(config: Config, started: Config) -> Config:
    """The config with the round of the run that it continues, where it leaves that to the program."""
    own, before = config.optimizer, started.optimizer
    if not (isinstance(own, GaussNewtonOptions) and isinstance(before, GaussNewtonOptions)):
        return config
    if own.round_queries != "auto":
        return config
    return config.model_copy(update={"optimizer": own.model_copy(update={"round_queries": before.round_queries})})
