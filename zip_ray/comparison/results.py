"""The results of a suite's runs, read from their folders for the report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE
from zip_ray.comparison.plan import Planned, plan
from zip_ray.comparison.statistics import Curve
from zip_ray.comparison.suite import Suite, load_suite
from zip_ray.comparison.suite_folder import SUITE, read_facts
from zip_ray.comparison.targets import read_applied
from zip_ray.errors import InputError
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_record
from zip_ray.tuning.events import EndEvent, Event, StartEvent, StepEvent, ValidationEvent
from zip_ray.tuning.ledger import Account

READOUT_MARK = " + readout"
"""Behind the label of a method with a readout, in all tables and pictures."""
WHITE_BOX = ("gradient",)
"""Values of `optimizer.method` that see more than losses."""


@dataclass(frozen=True)
class Finished:
    """A finished run."""

    run: Planned
    accuracy: float
    """Test accuracy of the tuned prompt."""
    zero_shot: dict[str, float]
    """Test accuracy of hand-written templates, by name."""
    templates: dict[str, str]
    """Their texts."""
    applied: dict[str, dict[str, float]]
    """By target that was tested: accuracy of the tuned prompt (`tuned`) and of the target's `plain template`."""
    training: Curve
    """Accuracy on mini-batches, by step."""
    validation: Curve
    parameters: int
    steps: int
    """Updates, each of one round of queries where the method is synchronous."""
    account: Account
    seconds: float
    environment: dict[str, str | int | None]

    @property
    def below_zero_shot(self) -> bool:
        """Whether the tuned prompt is below the task's plain template."""
        return self.accuracy < self.zero_shot[PLAIN_TEMPLATE]

    @property
    def whole(self) -> bool:
        """Whether its prompt has been tested on all targets."""
        return self.applied.keys() == self.run.targets.keys()


@dataclass(frozen=True)
class Results:
    """The results of a suite."""

    suite: Suite
    planned: list[Planned]
    finished: list[Finished]
    failures: dict[str, str]
    """By label of the run: why it did not come to its end."""
    revisions: list[str] = field(default_factory=list)
    """Revisions of the code that ran it."""

    def of(self, method: str, task: str, shots: int) -> list[Finished]:
        """The runs of a method on a task, one per seed."""
        return [one for one in self.finished if (one.run.method, one.run.task, one.run.shots) == (method, task, shots)]

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks with a finished run: those that the report shows."""
        return [task for task in self.suite.tasks if task in {one.run.task for one in self.finished}]

    @cached_property
    def shared(self) -> list[str]:
        """Tasks over which means are taken: those on which every method, at every number of shots, has a finished run.
        A method without any finished run at that number does not count."""
        done = {(one.run.method, one.run.shots, one.run.task) for one in self.finished}
        rows = {(method, shots) for method, shots, _ in done}
        return [task for task in self.suite.tasks if all((*row, task) in done for row in rows)]

    @property
    def white_box(self) -> set[str]:
        """Methods that see gradients: upper bounds, which do not compete."""
        return {run.method for run in self.planned if run.config.optimizer.method in WHITE_BOX}

    @property
    def budget(self) -> int:
        """Largest number of queries of a competing run: as planned or, if only time is limited, as charged."""
        apart = self.white_box
        planned = [
            steps * run.config.optimizer.queries_per_step
            for run in self.planned
            if run.method not in apart and (steps := run.config.planned_steps) is not None
        ]
        charged = [one.account.charged for one in self.finished if one.run.method not in apart]
        return max([*planned, *charged] or [one.account.charged for one in self.finished])


def read_results(folder: Path) -> Results:
    """Read a suite's folder, finished or not.

    Raises:
        InputError: it holds no suite, or a damaged file.
    """
    if not (folder / SUITE).is_file():
        raise InputError(f"{folder}: no {SUITE}: give the folder of a suite that `zip-ray compare` ran")
    suite = load_suite(folder / SUITE, written=True)
    runs = plan(suite, folder)
    shown = {run.method: run.method + READOUT_MARK * _has_readout(run) for run in runs}
    planned = [replace(run, method=shown[run.method]) for run in runs]
    labels = {run.label: marked.label for run, marked in zip(runs, planned, strict=True)}
    suite = suite.model_copy(update={"methods": {shown[label]: own for label, own in suite.methods.items()}})
    facts = read_facts(folder)
    finished = [one for run in planned if (one := read_run(run)) is not None]
    failures = {labels.get(label, label): why for label, why in facts.failures.items()}
    return Results(suite, planned, finished, failures, facts.revisions)


def _has_readout(run: Planned) -> bool:
    """Whether a run has a readout that its method's label says nothing of."""
    return run.config.readout != "none" and "readout" not in run.method


def read_run(run: Planned) -> Finished | None:
    """A finished run, its prompt perhaps not yet tested on all targets; None if it is not finished.

    Raises:
        InputError: a damaged record.
    """
    events = read_record(run.folder / RECORD) if (run.folder / RECORD).is_file() else []
    if not events or not isinstance(start := events[0], StartEvent) or not isinstance(end := events[-1], EndEvent):
        return None
    return Finished(
        run=run,
        accuracy=end.test_accuracy,
        zero_shot=start.zero_shot.test,
        templates=start.zero_shot.templates,
        applied=read_applied(run),
        training=_curve(events, StepEvent),
        validation=_curve(events, ValidationEvent),
        parameters=start.parameters,
        steps=end.step,
        account=end.account,
        seconds=end.seconds,
        environment=start.environment,
    )


def _curve(events: Sequence[Event], kind: type[StepEvent | ValidationEvent]) -> Curve:
    """The points of a kind of event; those whose accuracy is NaN are left out."""
    points = [
        (event.queries, event.seconds, event.accuracy)
        for event in events
        if isinstance(event, kind) and not math.isnan(event.accuracy)
    ]
    columns = np.array(points, dtype=np.float64).reshape(-1, 3).T
    return Curve(*columns)
