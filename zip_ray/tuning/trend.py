"""Whether a run's loss has moved at all: the line through the losses of its first steps, against its standard error."""

import math
from dataclasses import dataclass, replace

LEAST_STEPS, LEAST_QUERIES = 20, 500
"""Steps and queries after which a run is judged: both are needed."""
LEAST_CHANGE = 0.001
"""Share of the loss below which a change is none, however little noise there is: where all images are one mini-batch,
the losses of the steps have almost none."""
ERRORS = 2.0
"""Standard errors below which a change is noise."""


def judged_after(queries_per_step: int) -> int:
    """Steps with a finite loss after which a run is judged."""
    return max(LEAST_STEPS, math.ceil(LEAST_QUERIES / queries_per_step))


@dataclass(frozen=True)
class Trend:
    """The least-squares line through the losses of steps, from running sums of squares (Welford, 1962)."""

    steps: int = 0
    """Steps with a finite loss."""
    mean_step: float = 0.0
    mean_loss: float = 0.0
    step_squares: float = 0.0
    """Sum of (step - its mean)^2."""
    products: float = 0.0
    """Sum of (step - its mean) (loss - its mean)."""
    loss_squares: float = 0.0
    """Sum of (loss - its mean)^2."""

    def after(self, step: int, loss: float) -> "Trend":
        """The line with the loss of another step; unchanged if that is not finite."""
        if not math.isfinite(loss):
            return self
        steps, by_step, by_loss = self.steps + 1, step - self.mean_step, loss - self.mean_loss
        mean_step, mean_loss = self.mean_step + by_step / steps, self.mean_loss + by_loss / steps
        return replace(
            self,
            steps=steps,
            mean_step=mean_step,
            mean_loss=mean_loss,
            step_squares=self.step_squares + by_step * (step - mean_step),
            products=self.products + by_step * (loss - mean_loss),
            loss_squares=self.loss_squares + by_loss * (loss - mean_loss),
        )

    @property
    def change(self) -> float:
        """How much the line rises over the steps; negative if the loss falls. Needs two steps."""
        return self.products / self.step_squares * (self.steps - 1)

    @property
    def error(self) -> float:
        """Standard error of the change. Needs three steps."""
        residuals = max(self.loss_squares - self.products**2 / self.step_squares, 0.0)
        return math.sqrt(residuals / (self.steps - 2) / self.step_squares) * (self.steps - 1)

    @property
    def moved(self) -> bool:
        """Whether the change is more than noise."""
        return abs(self.change) > max(ERRORS * self.error, LEAST_CHANGE * abs(self.mean_loss))
