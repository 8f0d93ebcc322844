"""The view of a suite: on a terminal a bar for the whole and one per run, else lines."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from zip_ray.comparison.plan import Planned
from zip_ray.runs.progress import Summary
from zip_ray.tuning.events import Event, StepEvent


class SuiteView:
    """Shows the progress of a suite's runs. Its methods may be called from any thread."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        """Prepare the view; it is shown in a `with` block.

        Args:
            total: runs of the suite.
            console: where to write; stderr if None.
        """
        self._console = console or Console(stderr=True, markup=False, highlight=False)
        description, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
        bars = (description, BarColumn(), state)
        self._progress = Progress(
            *bars, TimeElapsedColumn(), console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._suite = self._progress.add_task("suite", total=total, state=f"0/{total} runs")
        self._done, self._total = 0, total
        self._runs: dict[str, tuple[TaskID, Summary]] = {}

    def __enter__(self) -> "SuiteView":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def checked(self, label: str, finding: str) -> None:
        """A task or a method has been tried before the first query."""
        self._progress.console.print(f"{label}: {finding}", soft_wrap=True)

    def started(self, run: Planned) -> None:
        """A run has begun."""
        task = self._progress.add_task(run.label, total=1.0, state="")
        self._runs[run.label] = (task, Summary(run.config.budget))

    def event(self, run: Planned, event: Event) -> None:
        """Take in an event of a run's record."""
        task, summary = self._runs[run.label]
        summary.event(event)
        if isinstance(event, StepEvent):
            line = summary.lines()[0]
            self._progress.update(task, completed=summary.done, state=line)

    def ended(self, run: Planned, how: str) -> None:
        """A run has ended."""
        if run.label in self._runs:
            task, _ = self._runs.pop(run.label)
            self._progress.remove_task(task)
        self._done += 1
        self._progress.update(self._suite, completed=self._done, state=f"{self._done}/{self._total} runs")
        line = f"{self._done}/{self._total}  {run.label}: {how}"
        self._progress.console.print(line, soft_wrap=True)
