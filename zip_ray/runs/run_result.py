"""The result of a run, for programs and for display."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from zip_ray.artifact.tuned_prompt import TunedPrompt, deployed
from zip_ray.readout.evidence import Evidence
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import each_event
from zip_ray.tuning.events import ChosenEvent, StallEvent, StartEvent, StepEvent, ValidationEvent
from zip_ray.tuning.loop import Outcome

Once = TypeVar("Once", StallEvent, ChosenEvent)
"""Events that a run has at most once."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    folder: Path
    """The run folder, with the files of docs/reference/files.md."""
    start: StartEvent = field(repr=False)
    """The first event of its record."""
    outcome: Outcome = field(repr=False)
    accuracies: dict[str, float]
    """Test accuracy by name; empty for a run that was cut off."""
    evidence: Evidence | None = field(repr=False)
    """Evidence for it on the validation images, compared with the start; None without a readout."""
    tracked: bool = field(repr=False)
    """Whether MLflow has everything."""
    run_id: str = field(repr=False)
    """MLflow's; empty without one."""

    @property
    def finished(self) -> bool:
        """Whether the run finished, rather than being interrupted."""
        return self.outcome.finished

    @property
    def accuracy(self) -> float:
        """Test accuracy of the tuned prompt, with its readout if it has one; 0 for a run that was cut off."""
        return deployed(self.accuracies)

    @property
    def queries(self) -> int:
        """Queries charged."""
        return self.outcome.state.account.charged

    @cached_property
    def prompt(self) -> TunedPrompt:
        """The tuned prompt.

        Raises:
            InputError: the run was cut off, so there is none yet.
        """
        return TunedPrompt.load(self.folder)

    @cached_property
    def stall(self) -> StallEvent | None:
        """The warning that the loss did not move; None where it moved, or the run was too short to be judged."""
        return self._only(StallEvent)

    @cached_property
    def chosen(self) -> ChosenEvent | None:
        """The options that the method has chosen by itself; None where the config left none to it."""
        return self._only(ChosenEvent)

    def _only(self, kind: type[Once]) -> Once | None:
        return next((event for event in each_event(self.folder / RECORD) if isinstance(event, kind)), None)

    @cached_property
    def history(self) -> Any:
        """Steps and validations in their order: a pandas frame where pandas is installed, else a list of rows.

        The columns are `event` (`step` or `validation`) and the fields of `tuning.events.StepEvent` and
        `ValidationEvent`; what an event does not have is missing.
        """
        rows = [
            {"event": "step" if isinstance(event, StepEvent) else "validation", **asdict(event)}
            for event in each_event(self.folder / RECORD)
            if isinstance(event, StepEvent | ValidationEvent)
        ]
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows)
