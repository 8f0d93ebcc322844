"""The progress of a run in a few lines: for the live view, `status`, suites and Ray's metrics."""

from zip_ray.config.budget import BudgetConfig
from zip_ray.tuning.events import ChosenEvent, EndEvent, Event, PoolEvent, StallEvent, StepEvent, ValidationEvent

LINE_SECONDS = 5.0
"""Seconds between two lines when there is no terminal."""


class Summary:
    """The events of a run as a few lines. With several budgets, the share done is that of the nearest."""

    def __init__(self, budget: BudgetConfig) -> None:
        self._budget = budget
        self._first: StepEvent | None = None
        self._step: StepEvent | None = None
        self._pool: PoolEvent | None = None
        self._asked: tuple[int, int] | None = None
        self._stall: StallEvent | None = None
        self._chosen: ChosenEvent | None = None
        self._validation = ""
        self._end: EndEvent | None = None

    @property
    def mean_rate(self) -> float:
        """Queries per second since the start; NaN before the first step."""
        return self._step.queries / max(self._step.seconds, 1e-9) if self._step else float("nan")

    @property
    def seconds_left(self) -> float:
        """Seconds until the nearest budget is used up; infinite while unknown."""
        return min(self._remaining(), default=(float("inf"), ""))[0]

    @property
    def done(self) -> float:
        """Share of the nearest budget that is used up."""
        if self._step is None:
            return 0.0
        nearest = min(self._remaining())[1]
        return min(_used(self._step, nearest) / dict(self._limits())[nearest], 1.0)

    def event(self, event: Event) -> None:
        """Take in an event of the record."""
        match event:
            case ValidationEvent():
                self._validation = f"  validation {event.accuracy:.1%}"
            case PoolEvent():
                self._pool, self._asked = event, event.asked
            case StallEvent():
                self._stall = event
            case ChosenEvent():
                self._chosen = event
            case EndEvent():
                self._end, self._asked = event, None
            case StepEvent():
                self._first, self._step, self._asked, self._end = self._first or event, event, None, None

    def lines(self, silent: float = 0.0) -> list[str]:
        """Progress; rate and time left; actors; at the end, the tuned prompt's accuracy.

        Args:
            silent: seconds since the latest step.
        """
        if self._first is None or self._step is None:
            begun = self._pool is not None and self._pool.ready
            doing = f"encoding images and testing templates{self._parts()}" if begun else "waiting for the first actor"
            return [doing, *self._actors()]
        step = self._step
        head = f"{self._queries(step)} queries  loss {step.loss:.3f}  accuracy {step.accuracy:.1%}{self._validation}"
        pace = f"{step.queries_per_second:.0f} queries/s, {self.mean_rate:.0f} since the start"
        if silent >= LINE_SECONDS:
            pace = f"latest step {silent:.0f} s ago, {self.mean_rate:.0f} queries/s since the start"
        if self._end is not None:  # no actor works for it any more
            return [head, f"{self.mean_rate:.0f} queries/s", *self._said(), f"tuned prompt: {accuracy_text(self._end)}"]
        stale = f"  staleness {step.staleness:.1f}" if step.staleness else ""
        wasted = f"  {step.wasted} {'query' if step.wasted == 1 else 'queries'} wasted" if step.wasted else ""
        dropped = f"  {step.dropped} answers too late" if step.dropped else ""
        pace = f"testing the tuned prompt{self._parts()}" if self._asked else f"{pace}{self._left()}"
        return [head, f"{pace}{stale}{wasted}{dropped}", *self._said(), *self._actors()]

    def _parts(self) -> str:
        """Progress of the test that the run is waiting for."""
        done, total = self._asked or (0, 0)
        return "" if total < 2 else f": {done:,} of {total:,} parts"

    def _actors(self) -> list[str]:
        if self._pool is None:
            return []
        pool = self._pool
        loading = f", {pool.loading} loading the model" if pool.loading else ""
        pending = f", {pool.pending} pending" if pool.pending else ""
        lost = f", {pool.given_up} given up" if pool.given_up else ""
        speed = f"  {pool.paces[0]:.3g} to {pool.paces[1]:.3g} s per pass" if pool.paces else ""
        error = f"  last error: {pool.last_error}" if pool.last_error else ""
        counts = f"actors: {pool.ready} ready{loading}{pending}{lost}{speed}{error}"
        return [counts, pool.waits] if pool.waits else [counts]

    def _said(self) -> list[str]:
        """The run's one-time messages."""
        chosen = [chosen_text(self._chosen)] if self._chosen else []
        return chosen + ([stall_text(self._stall)] if self._stall else [])

    def _queries(self, step: StepEvent) -> str:
        limit = self._budget.queries
        return f"{step.queries:,}" + (f"/{limit:,}" if limit is not None else "")

    def _left(self) -> str:
        known = [(seconds, name) for seconds, name in sorted(self._remaining()) if seconds < float("inf")]
        if len(known) == 1:
            return f"  {_clock(known[0][0])} left"
        return f"  left: {', '.join(f'{_clock(seconds)} by {name}' for seconds, name in known)}" if known else ""

    def _remaining(self) -> list[tuple[float, str]]:
        """Seconds until each budget is used up, at the rate since the first step; infinite while that is 0."""
        if self._first is None or self._step is None:
            return []
        elapsed, found = self._step.seconds - self._first.seconds, []
        for name, limit in self._limits():
            now = _used(self._step, name)
            gained = now - _used(self._first, name)
            found.append((max((limit - now) * elapsed / gained, 0.0) if gained > 0 else float("inf"), name))
        return found

    def _limits(self) -> list[tuple[str, float]]:
        limits = {"queries": self._budget.queries, "seconds": self._budget.seconds, "step": self._budget.steps}
        return [(name, limit) for name, limit in limits.items() if limit is not None]


def accuracy_text(end: EndEvent) -> str:
    """Test accuracy of a tuned prompt, beside that of the plain template where it is below."""
    below = f", below the plain template ({end.zero_shot_accuracy:.1%})" if end.below_zero_shot else ""
    return f"test accuracy {end.test_accuracy:.1%}{below}"


def stall_text(stall: StallEvent) -> str:
    """A message that the loss has not moved, with the numbers and the remedy."""
    numbers = f"{stall.change:+.2g} with a standard error of {stall.error:.1g}"
    return f"the loss has not moved in {stall.steps} steps ({numbers}): {stall.remedy}"


def chosen_text(event: ChosenEvent) -> str:
    """The options that the method has chosen, and from how many queries."""
    options = ", ".join(f"optimizer.{name} {value:.3g}" for name, value in event.options.items())
    return f"chosen after {event.queries} queries: {options}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _used(step: StepEvent, budget: str) -> float:
    """How much of a budget a run has used."""
    return {"queries": step.queries, "seconds": step.seconds, "step": step.step}[budget]
