"""Section `validation`: how progress is judged, and what is deployed."""

from typing import Literal

from zip_ray.config.section import Count, Section


class ValidationConfig(Section):
    """How progress is measured; not counted against the budget."""

    every_queries: Count = 250
    """Queries between two evaluations on validation images."""
    deploy: Literal["last", "best", "lowest-loss"] = "last"
    """Iterate that becomes the tuned prompt. last = published; best = the one of highest validation accuracy;
    lowest-loss = that of lowest validation loss, which few images judge better. Of equals the earliest. The start
    (step 0) is a candidate; test images are not used. A start that is not the task's template may be below it, and so
    may the best iterate: the run reports that at its end."""
    feature_baselines: bool = False
    """Whether a linear probe and Tip-Adapter on the model's image features are tested too. They need more than a black
    box returns."""
