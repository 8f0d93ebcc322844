"""The figures of a run as Ray's own metrics, for the dashboards that watch the cluster."""

import math

from ray.util.metrics import Gauge

from zip_ray.config.budget import BudgetConfig
from zip_ray.runs.progress import Summary
from zip_ray.tuning.events import Event, PoolEvent, StepEvent, ValidationEvent

GAUGES = {
    "queries": "Queries charged",
    "loss": "Mean mini-batch loss of the latest step",
    "train_accuracy": "Mean mini-batch accuracy of the latest step",
    "staleness": "Updates made since the pairs of the latest step were issued",
    "wasted_queries": "Queries issued without use",
    "dropped_answers": "Results that were too late to be used",
    "queries_per_second": "Queries per second over the latest seconds",
    "mean_queries_per_second": "Queries per second since the start",
    "seconds_left": "Seconds until the nearest budget is used up",
    "validation_accuracy": "Accuracy on the validation images",
    "actors_ready": "Actors that have loaded their model",
    "actors_loading": "Actors that are loading their model",
    "actors_pending": "Actors asked for that are not placed on a node",
    "actors_given_up": "Actors that are no longer replaced, after too many failed starts",
    "fastest_pass_seconds": "Seconds per pass of the fastest actor",
    "slowest_pass_seconds": "Seconds per pass of the slowest actor",
}
"""What each gauge shows, by its name without the prefix `zip_ray_`."""


class RayMetrics:
    """Sets the gauges from the events of a run; Ray must be connected when the first comes."""

    def __init__(self, run: str, budget: BudgetConfig) -> None:
        """Register no gauge before the first event.

        Args:
            run: identifies this run among others on the cluster; the tag `run` of every gauge.
            budget: limits of the run.
        """
        self._summary = Summary(budget)
        self._tags = {"run": run}
        self._gauges: dict[str, Gauge] = {}

    def event(self, event: Event) -> None:
        """Handle an event of the record."""
        self._summary.event(event)
        for name, value in self._figures(event).items():
            if math.isfinite(value):
                if name not in self._gauges:
                    self._gauges[name] = Gauge(f"zip_ray_{name}", GAUGES[name], tag_keys=("run",))
                self._gauges[name].set(value, self._tags)

    def _figures(self, event: Event) -> dict[str, float]:
        """The values that an event has, by the name of the gauge."""
        match event:
            case StepEvent():
                return {
                    "queries": event.queries,
                    "loss": event.loss,
                    "train_accuracy": event.accuracy,
                    "staleness": event.staleness,
                    "wasted_queries": event.wasted,
                    "dropped_answers": event.dropped,
                    "queries_per_second": event.queries_per_second,
                    "mean_queries_per_second": self._summary.mean_rate,
                    "seconds_left": self._summary.seconds_left,
                }
            case ValidationEvent():
                return {"validation_accuracy": event.accuracy}
            case PoolEvent():
                counts = {
                    "actors_ready": event.ready,
                    "actors_loading": event.loading,
                    "actors_pending": event.pending,
                    "actors_given_up": event.given_up,
                }
                fastest, slowest = event.paces or (math.nan, math.nan)
                return {**counts, "fastest_pass_seconds": fastest, "slowest_pass_seconds": slowest}
        return {}
