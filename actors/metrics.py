"""The figures of a run as Ray's own metrics, for the dashboards that watch the cluster."""

import math

from ray.util.metrics import Gauge
from zip_ray.runs.progress import Summary

from zip_ray.config.budget import BudgetConfig
from zip_ray.runs.event_log import Event

GAUGES = {
    "step": {
        "queries": ("zip_ray_queries", "Queries charged"),
        "loss": ("zip_ray_loss", "Mean mini-batch loss of the latest step"),
        "accuracy": ("zip_ray_train_accuracy", "Mean mini-batch accuracy of the latest step"),
        "staleness": ("zip_ray_staleness", "Updates made since the pairs of the latest step were asked"),
        "wasted": ("zip_ray_wasted_queries", "Queries issued without use"),
        "dropped": ("zip_ray_dropped_answers", "Answers that were too stale to be used"),
        "queries_per_second": ("zip_ray_queries_per_second", "Queries a second of late"),
        "mean_rate": ("zip_ray_mean_queries_per_second", "Queries a second since the start"),
        "seconds_left": ("zip_ray_seconds_left", "Seconds until the nearest budget is used up"),
    },
    "validation": {"accuracy": ("zip_ray_validation_accuracy", "Accuracy on the validation images")},
    "pool": {
        "ready": ("zip_ray_actors_ready", "Actors that have loaded their model"),
        "pending": ("zip_ray_actors_pending", "Actors asked for that are not ready"),
        "given_up": ("zip_ray_actors_given_up", "Actors that the pool does without, after too many failed starts"),
        "fastest": ("zip_ray_fastest_pass_seconds", "Seconds a pass of the fastest actor"),
        "slowest": ("zip_ray_slowest_pass_seconds", "Seconds a pass of the slowest actor"),
    },
}
"""By kind of event and figure: name and description of the gauge."""


class RayMetrics:
    """Sets the gauges from the events of a run; Ray must be connected when the first comes."""

    def __init__(self, run: str, budget: BudgetConfig) -> None:
        """Nothing is registered yet.

        Args:
            run: what tells this run from others on the cluster; the tag `run` of every gauge.
            budget: limits of the run.
        """
        self._summary = Summary(budget)
        self._tags = {"run": run}
        self._gauges: dict[str, Gauge] = {}

    def event(self, event: Event) -> None:
        """Take notice of an event of the record."""
        self._summary.event(event)
        figures = {**event, **self._derived(event)}
        for figure, (name, description) in GAUGES.get(str(event["event"]), {}).items():
            value = figures.get(figure)
            if isinstance(value, (int, float)) and math.isfinite(value):
                if name not in self._gauges:
                    self._gauges[name] = Gauge(name, description, tag_keys=("run",))
                self._gauges[name].set(value, self._tags)

    def _derived(self, event: Event) -> dict[str, object]:
        """What an event does not say itself."""
        match event:
            case {"event": "step"}:
                return {"mean_rate": self._summary.mean_rate, "seconds_left": self._summary.seconds_left}
            case {"paces": [fastest, slowest]}:
                return {"fastest": fastest, "slowest": slowest}
        return {}
