"""The display of a run: a live view on a terminal, otherwise a line at intervals; a summary at the end."""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from zip_ray.config.budget import BudgetConfig
from zip_ray.config.resources import ClusterConfig
from zip_ray.config.tree import Config
from zip_ray.runs.progress import LINE_SECONDS, Summary, chosen_text, stall_text
from zip_ray.tuning.events import ChosenEvent, Event, PoolEvent, StallEvent, StepEvent


class ProgressView:
    """Shows the events of a run as they happen."""

    def __init__(
        self,
        budget: BudgetConfig,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        opening: str = "starting",
    ) -> None:
        """Prepare the view; it is shown once entered.

        Args:
            budget: limits of the run.
            console: where to write; default: stderr.
            clock: seconds, monotonic.
            opening: shown until the first event (see `opening_text`).
        """
        self._summary, self._clock, self._opening = Summary(budget), clock, [opening]
        self._console = console or Console(stderr=True, markup=False, highlight=False)
        self._last_line, self._latest_step, self._said = -LINE_SECONDS, clock(), ""
        self._live = Live(console=self._console, transient=True, get_renderable=self._draw, refresh_per_second=4)
        self._closing, self._gate = threading.Event(), threading.Lock()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> "ProgressView":
        if self._console.is_terminal:
            self._live.start()
        else:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._closing.set()
            self._ticker.join()

    def event(self, event: Event) -> None:
        """Handle an event of the record."""
        if isinstance(event, StallEvent | ChosenEvent) and not self._console.is_terminal:
            text = stall_text(event) if isinstance(event, StallEvent) else chosen_text(event)
            self._console.print(text, soft_wrap=True)  # once, and not in each line that follows
            return
        self._summary.event(event)
        self._opening = []
        if isinstance(event, StepEvent):
            self._latest_step = self._clock()
        if not self._console.is_terminal and isinstance(event, StepEvent | PoolEvent):
            self._line_if_due()

    def _line_if_due(self) -> None:
        """Print a line if the last one is old enough, and says something else."""
        with self._gate:
            line = "  ".join(self._lines())
            if self._clock() - self._last_line >= LINE_SECONDS and line != self._said:
                self._last_line, self._said = self._clock(), line
                self._console.print(line, soft_wrap=True)

    def _tick(self) -> None:
        """Print a line at intervals even without events."""
        while not self._closing.wait(LINE_SECONDS / 2):
            self._line_if_due()

    def _lines(self) -> list[str]:
        return self._opening or self._summary.lines(self._clock() - self._latest_step)

    def _draw(self) -> Group:
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in self._lines()]
        return Group(ProgressBar(total=1.0, completed=self._summary.done, width=40), *lines)


def shown(config: Config) -> ProgressView:
    """The view of a run that begins or continues."""
    return ProgressView(config.budget, opening=opening_text(config.cluster))


def opening_text(cluster: ClusterConfig) -> str:
    """What a run does before its pool is there."""
    if cluster.pool == "in-process":
        return "loading the model"
    return "joining the Ray cluster" if cluster.address or os.environ.get("RAY_ADDRESS") else "starting Ray"
