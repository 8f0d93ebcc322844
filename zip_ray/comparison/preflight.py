"""Before the first query of a suite: does the model load, are the data sets found, can each method be built?

One run of each task is tried, then one of each method on the first task that is found: a fault shows within minutes,
and not once per run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from zip_ray.comparison.plan import Planned
from zip_ray.comparison.targets import read_applied
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError
from zip_ray.pool.shared import Channel, PoolHub
from zip_ray.protocol.messages import FactsRequest, Priority, new_work
from zip_ray.runs.event_log import read_end

POLL_SECONDS = 0.5
"""Longest time before signals are looked at again."""


def keys_of(runs: Sequence[Planned]) -> list[str]:
    """Keys of one scorer of each task, then of each method: those that the preflight builds first."""
    tried = [*_first_of(runs, lambda run: run.task).values(), *_first_of(runs, lambda run: run.method).values()]
    return list(dict.fromkeys(scorer_key(run.config) for run in tried))


def preflight(
    runs: Sequence[Planned],
    hub: PoolHub,
    interrupted: Callable[[], bool],
    say: Callable[[str, str], None] = lambda _label, _finding: None,
) -> dict[str, str]:
    """The runs that cannot begin, by label, and why.

    Args:
        runs: what is left of the suite.
        hub: builds the scorers.
        interrupted: whether the suite has been asked to stop; then nothing more is tried.
        say: receives the label and the finding of each task, target and method with a fault.

    Raises:
        InputError: no run can begin.
    """
    first = _first_of([run for run in runs if read_end(run.folder) is None], lambda run: run.task)
    faults = _try({task: run.config for task, run in first.items()}, hub, interrupted)
    elsewhere = {
        f"{run.task} on {label}": config
        for run in _first_of(runs, lambda run: run.task).values()
        for label, config in run.targets.items()
        if label not in read_applied(run)
    }
    found = [run for run in runs if run.task in first and run.task not in faults]
    begun = found[0].task if found else None
    methods = _first_of([run for run in found if run.task == begun], lambda run: run.method)
    of_methods = _try({label: run.config for label, run in methods.items()}, hub, interrupted)
    of_targets = _try(elsewhere, hub, interrupted)
    if interrupted():
        return {}
    for label, finding in {**dict.fromkeys(first, "found"), **faults, **of_targets, **of_methods}.items():
        say(label, finding)
    refused = {
        run.label: fault
        for run in runs
        if (fault := faults.get(run.task) or of_methods.get(run.method)) and read_end(run.folder) is None
    }
    if len(refused) == len(runs):
        whys = list(dict.fromkeys(refused.values()))
        more = f"; and {len(whys) - 1} other faults" if whys[1:] else ""
        raise InputError(f"no run of the suite can begin: {whys[0]}{more}")
    return refused


def _try(configs: Mapping[str, Config], hub: PoolHub, interrupted: Callable[[], bool]) -> dict[str, str]:
    """The faults, by label, of the scorers of some configs; they are built side by side."""
    asked = {label: _ask(hub.channel(scorer_key(config))) for label, config in configs.items()}
    faults = {}
    for label, channel in asked.items():
        try:
            while not interrupted() and not channel.collect(POLL_SECONDS):
                pass
        except (InputError, PoolError) as error:
            if hub.error is not None:
                raise
            faults[label] = str(error)
    return faults


def _ask(channel: Channel) -> Channel:
    channel.submit([new_work(FactsRequest(), Priority.EVALUATION)])
    return channel


def _first_of(runs: Iterable[Planned], what: Callable[[Planned], str]) -> dict[str, Planned]:
    """The first run with each value of `what`."""
    found: dict[str, Planned] = {}
    for run in runs:
        found.setdefault(what(run), run)
    return found
