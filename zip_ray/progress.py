"""What a person sees while a run goes on: a live bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from zip_ray.config import BudgetConfig
from zip_ray.record import Event

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""


class ProgressView:
    """Shows the events of a run. Where several budgets are set, bar and time left are those of the nearest."""

    def __init__(
        self, budget: BudgetConfig, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is shown before it is entered.

        Args:
            budget: limits of the run.
            console: where to write; stderr where absent.
            clock: seconds, monotonic.
        """
        self._budget, self._clock = budget, clock
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("tuning", total=1.0, text="waiting for the first step")
        self._last_line = -LINE_SECONDS
        self._first: Event | None = None
        self._validation = ""

    def __enter__(self) -> "ProgressView":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def event(self, event: Event) -> None:
        """Take notice of an event of the record."""
        if event["event"] == "validation":
            self._validation = f"  validation {_number(event, 'accuracy'):.1%}"
        if event["event"] != "step":
            return
        self._first = self._first or event
        done, left = self._nearest(event)
        text = (
            f"{self._queries(event)} queries  loss {_number(event, 'loss'):.3f}  "
            f"accuracy {_number(event, 'accuracy'):.1%}{self._validation}  "
            f"{_number(event, 'queries_per_second'):.0f} queries/s{left}"
        )
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, text=text)
        elif self._clock() - self._last_line >= LINE_SECONDS:
            self._last_line = self._clock()
            self._console.print(text, highlight=False)

    def _queries(self, event: Event) -> str:
        limit = self._budget.queries
        return f"{_number(event, 'queries'):,.0f}" + (f"/{limit:,}" if limit is not None else "")

    def _nearest(self, event: Event) -> tuple[float, str]:
        """Share done of the budget that will end the run, and the time until then, at the rate since the start."""
        assert self._first is not None
        elapsed = _number(event, "seconds") - _number(self._first, "seconds")
        limits = {"queries": self._budget.queries, "seconds": self._budget.seconds, "step": self._budget.steps}
        shares = []
        for name, limit in limits.items():
            if limit is not None:
                now, gained = _number(event, name), _number(event, name) - _number(self._first, name)
                remaining = (limit - now) * elapsed / gained if gained > 0 else float("inf")
                shares.append((max(remaining, 0.0), min(now / limit, 1.0)))
        seconds, done = min(shares)
        if seconds == float("inf"):
            return done, ""
        minutes, rest = divmod(round(seconds), 60)
        return done, f"  {minutes}:{rest:02d} left"


def _number(event: Event, key: str) -> float:
    value = event[key]
    return float(value) if isinstance(value, (int, float)) else float("nan")
