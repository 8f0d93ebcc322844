"""The figures of a run as Ray's own metrics, for the dashboards that watch the cluster."""

import math

from ray.util.metrics import Gauge

from zip_ray.record import Event

GAUGES = {
    "step": {
        "queries": ("zip_ray_queries", "Queries charged"),
        "loss": ("zip_ray_loss", "Mean mini-batch loss of the latest step"),
        "accuracy": ("zip_ray_train_accuracy", "Mean mini-batch accuracy of the latest step"),
        "staleness": ("zip_ray_staleness", "Updates made since the pairs of the latest step were asked"),
        "wasted": ("zip_ray_wasted_queries", "Queries issued without use"),
        "queries_per_second": ("zip_ray_queries_per_second", "Queries a second of late"),
    },
    "validation": {"accuracy": ("zip_ray_validation_accuracy", "Accuracy on the validation images")},
    "pool": {
        "ready": ("zip_ray_actors_ready", "Actors that have loaded their model"),
        "pending": ("zip_ray_actors_pending", "Actors asked for that are not ready"),
    },
}
"""By kind of event and field: name and description of the gauge."""


class RayMetrics:
    """Sets the gauges from the events of a run; Ray must be connected when the first comes."""

    def __init__(self, run: str) -> None:
        """Nothing is registered yet.

        Args:
            run: what tells this run from others on the cluster; the tag `run` of every gauge.
        """
        self._tags = {"run": run}
        self._gauges: dict[str, Gauge] = {}

    def event(self, event: Event) -> None:
        """Take notice of an event of the record."""
        for field, (name, description) in GAUGES.get(str(event["event"]), {}).items():
            value = event[field]
            if isinstance(value, (int, float)) and math.isfinite(value):
                if name not in self._gauges:
                    self._gauges[name] = Gauge(name, description, tag_keys=("run",))
                self._gauges[name].set(value, self._tags)
