"""What a person sees of a run: a live view on a terminal, a line now and then without one, a summary."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from zip_ray.config import BudgetConfig
from zip_ray.record import Event

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""


class Summary:
    """The events of a run as a few lines. Where several budgets are set, the share done is that of the nearest."""

    def __init__(self, budget: BudgetConfig) -> None:
        self._budget = budget
        self._first: Event | None = None
        self._step: Event | None = None
        self._pool: Event | None = None
        self._validation = ""

    @property
    def mean_rate(self) -> float:
        """Queries a second since the start; not a number before the first step."""
        return (
            _number(self._step, "queries") / max(_number(self._step, "seconds"), 1e-9) if self._step else float("nan")
        )

    @property
    def seconds_left(self) -> float:
        """Until the nearest budget is used up; infinite while that is not known."""
        return min(self._remaining(), default=(float("inf"), ""))[0]

    @property
    def done(self) -> float:
        """Share of the nearest budget."""
        if self._step is None:
            return 0.0
        nearest = min(self._remaining())[1]
        return min(_number(self._step, nearest) / dict(self._limits())[nearest], 1.0)

    def event(self, event: Event) -> None:
        """Take notice of an event of the record."""
        match event["event"]:
            case "validation":
                self._validation = f"  validation {_number(event, 'accuracy'):.1%}"
            case "pool":
                self._pool = event
            case "step":
                self._first, self._step = self._first or event, event

    def lines(self, silent: float = 0.0) -> list[str]:
        """How far it is; how fast, and for how long yet; who works on it.

        Args:
            silent: seconds since the latest step.
        """
        if self._first is None or self._step is None:
            return ["waiting for the first step", *self._actors()]
        step = self._step
        head = (
            f"{self._queries(step)} queries  loss {_number(step, 'loss'):.3f}  "
            f"accuracy {_number(step, 'accuracy'):.1%}{self._validation}"
        )
        pace = f"{_number(step, 'queries_per_second'):.0f} queries/s, {self.mean_rate:.0f} since the start"
        if silent >= LINE_SECONDS:
            pace = f"latest step {silent:.0f} s ago, {self.mean_rate:.0f} queries/s since the start"
        stale = f"  staleness {_number(step, 'staleness'):.1f}" if step["staleness"] else ""
        wasted = f"  {step['wasted']} queries wasted" if step["wasted"] else ""
        dropped = f"  {step['dropped']} answers too stale" if step["dropped"] else ""
        return [head, f"{pace}{self._left()}{stale}{wasted}{dropped}", *self._actors()]

    def _actors(self) -> list[str]:
        if self._pool is None:
            return []
        pool = self._pool
        pending = f", {pool['pending']} pending" if pool["pending"] else ""
        lost = f", {pool['given_up']} given up" if pool.get("given_up") else ""  # absent from older records
        paces = pool["paces"]
        speed = f"  {paces[0]:.3g} to {paces[1]:.3g} s a pass" if isinstance(paces, (list, tuple)) and paces else ""
        error = f"  last error: {pool['last_error']}" if pool["last_error"] else ""
        return [f"actors: {pool['ready']} ready{pending}{lost}{speed}{error}"]

    def _queries(self, step: Event) -> str:
        limit = self._budget.queries
        return f"{_number(step, 'queries'):,.0f}" + (f"/{limit:,}" if limit is not None else "")

    def _left(self) -> str:
        known = [(seconds, name) for seconds, name in sorted(self._remaining()) if seconds < float("inf")]
        if len(known) == 1:
            return f"  {_clock(known[0][0])} left"
        return f"  left: {', '.join(f'{_clock(seconds)} by {name}' for seconds, name in known)}" if known else ""

    def _remaining(self) -> list[tuple[float, str]]:
        """Seconds until each budget is used up, at the rate since the first step; infinite while that is 0."""
        if self._first is None or self._step is None:
            return []
        elapsed, found = _number(self._step, "seconds") - _number(self._first, "seconds"), []
        for name, limit in self._limits():
            now = _number(self._step, name)
            gained = now - _number(self._first, name)
            found.append((max((limit - now) * elapsed / gained, 0.0) if gained > 0 else float("inf"), name))
        return found

    def _limits(self) -> list[tuple[str, float]]:
        limits = {"queries": self._budget.queries, "seconds": self._budget.seconds, "step": self._budget.steps}
        return [(name, limit) for name, limit in limits.items() if limit is not None]


class ProgressView:
    """Shows the events of a run while it goes on."""

    def __init__(
        self, budget: BudgetConfig, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is shown before it is entered.

        Args:
            budget: limits of the run.
            console: where to write; stderr where absent.
            clock: seconds, monotonic.
        """
        self._summary, self._clock = Summary(budget), clock
        self._console = console or Console(stderr=True, markup=False, highlight=False)
        self._last_line, self._latest_step = -LINE_SECONDS, clock()
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
        """Take notice of an event of the record."""
        self._summary.event(event)
        if event["event"] == "step":
            self._latest_step = self._clock()
        if not self._console.is_terminal and event["event"] in ("step", "pool"):
            self._line_if_due()

    def _line_if_due(self) -> None:
        """Print one, where the last is long enough ago."""
        with self._gate:
            if self._clock() - self._last_line >= LINE_SECONDS:
                self._last_line = self._clock()
                self._console.print("  ".join(self._lines()), soft_wrap=True)

    def _tick(self) -> None:
        """A line now and then while nothing happens, too; not before the first."""
        while not self._closing.wait(LINE_SECONDS / 2):
            if self._last_line >= 0:
                self._line_if_due()

    def _lines(self) -> list[str]:
        return self._summary.lines(self._clock() - self._latest_step)

    def _draw(self) -> Group:
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in self._lines()]
        return Group(ProgressBar(total=1.0, completed=self._summary.done, width=40), *lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(event: Event, key: str) -> float:
    value = event[key]
    return float(value) if isinstance(value, (int, float)) else float("nan")
