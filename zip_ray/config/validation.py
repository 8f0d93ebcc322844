"""Section `validation`: how progress is judged, and what is deployed."""

from typing import Literal

from zip_ray.config.section import Count, Section


class ValidationConfig(Section):
    """How progress is judged; apart from the budget."""

    every_queries: Count = 250
    """Queries between two evaluations on the validation images."""
    deploy: Literal["last", "best"] = "last"
    """Which iterate becomes the tuned prompt: the last (published) or the best by validation accuracy."""
