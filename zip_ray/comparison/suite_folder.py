"""The folder of a suite: what the suite is, which code ran it, what failed, and which of its runs are left."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from zip_ray.comparison.plan import Planned
from zip_ray.comparison.revision import revision
from zip_ray.comparison.suite import Suite, dump
from zip_ray.comparison.targets import read_applied
from zip_ray.config.budget import BudgetConfig
from zip_ray.config.threads import with_threads
from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import each_event, read_end, read_start
from zip_ray.runs.folder import CONFIG
from zip_ray.runs.resume_rules import require_same, started_with

SUITE = "suite.yaml"
FACTS = "suite.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SuiteFacts:
    """Facts about a suite besides its runs."""

    revisions: list[str] = field(default_factory=list)
    """Revisions of the code that ran it."""
    failures: dict[str, str] = field(default_factory=dict)
    """By label of the run: why it did not come to its end, or was not tested on all targets."""


def read_facts(folder: Path) -> SuiteFacts:
    """The facts about a suite; empty before it has been run."""
    path = folder / FACTS
    if not path.is_file():
        return SuiteFacts()
    kept = json.loads(path.read_text(encoding="utf-8"))
    return SuiteFacts(kept["revisions"], kept["failures"])


def write_facts(folder: Path, facts: SuiteFacts) -> None:
    """Write suite.json."""
    kept = {"schema_version": SCHEMA_VERSION, **asdict(facts)}
    write_whole(folder / FACTS, (json.dumps(kept, indent=2) + "\n").encode())


def prepare(folder: Path, suite: Suite, runs: Sequence[Planned]) -> list[Planned]:
    """Write down what the suite is and which code runs it; the runs that are still to be done.

    Raises:
        InputError: the folder is another suite's or a run's, or a run in it was started with another config.
    """
    if (folder / CONFIG).is_file():
        raise InputError(f"output: '{folder}' is the folder of a run: choose another")
    runs = [_as_started(run) for run in runs]
    write_whole(folder / SUITE, dump(suite))
    revisions = [*read_facts(folder).revisions, revision()]
    write_facts(folder, SuiteFacts(list(dict.fromkeys(revisions))))
    return [run for run in runs if not is_whole(run)]


def is_whole(run: Planned) -> bool:
    """Whether a run has come to its end, and its prompt has been tested on all targets."""
    return read_end(run.folder) is not None and read_applied(run).keys() == run.targets.keys()


def _as_started(run: Planned) -> Planned:
    """The run with the number of threads that it was started with, or will be.

    Raises:
        InputError: it was started with another config.
    """
    record = run.folder / RECORD
    if not record.is_file() or next(each_event(record), None) is None:
        return replace(run, config=with_threads(run.config))
    start = read_start(run.folder)
    before, execution = started_with(run.folder, start), run.config.execution
    if execution.threads == "auto":
        execution = execution.model_copy(update={"threads": before.execution.threads})
    run = replace(run, config=run.config.model_copy(update={"execution": execution}))
    require_same(run.folder, start, run.config)
    _require_same_budget(run, before.budget)
    return run


def _require_same_budget(run: Planned, before: BudgetConfig) -> None:
    """A single run may continue with more budget, but the runs of a suite are compared at the same one."""
    for name, value in run.config.budget:
        if value != (was := getattr(before, name)):
            raise InputError(
                f"budget.{name}: is {value}, {run.folder} was started with {was}, and runs are compared at one "
                "budget: choose another folder (--output)"
            )
