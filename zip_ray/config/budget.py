"""Section `budget`: when to stop."""

from typing import Annotated

from pydantic import Field, model_validator

from zip_ray.config.section import Count, Positive, Section


class BudgetConfig(Section):
    """When to stop: the limit reached first. Evaluation on validation and test images is not counted."""

    queries: Count | None = 5000
    """Evaluations on one mini-batch at one prompt."""
    seconds: Positive | None = None
    """Seconds of tuning, over all resumes."""
    steps: Count | None = None
    """Updates of the parameters."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Validation accuracy, between 0 and 1."""

    @model_validator(mode="after")
    def _finite(self) -> "BudgetConfig":
        if self.queries is None and self.seconds is None and self.steps is None:
            raise ValueError("no limit is set: give queries, seconds or steps (target_accuracy may never be reached)")
        return self
