"""A sweep over settings of a method on one pool: the model is loaded once, and poor trials are pruned.

    python examples/sweep.py

Any optimiser of settings can take the place of the loop: with Optuna, `suggest_float` gives the step size, and the
callback reports the validation accuracy and asks `should_prune`.
"""

import random
from pathlib import Path

import zip_ray
from zip_ray.tuning.events import Event, ValidationEvent


class Pruner:
    """Stops a trial whose validation accuracy is below the median of the earlier trials at as many queries."""

    def __init__(self) -> None:
        self.seen: dict[int, list[float]] = {}

    def __call__(self, event: Event) -> None:
        if not isinstance(event, ValidationEvent):
            return
        earlier = self.seen.setdefault(event.queries, [])
        poor = event.queries > 0 and bool(earlier) and event.accuracy < sorted(earlier)[len(earlier) // 2]
        earlier.append(event.accuracy)
        if poor:
            raise zip_ray.Interrupted


def sweep(folder: Path, trials: int, queries: int, **common: object) -> list[tuple[float, zip_ray.RunResult]]:
    """Trials with step sizes drawn log-uniformly; the finished ones, the most accurate on validation images first."""
    rng, pruner, finished = random.Random(1), Pruner(), []
    with zip_ray.open_pool("digits", method="zip", **common) as pool:
        for trial in range(trials):
            step_size = 10 ** rng.uniform(-3, 0)
            result = zip_ray.tune(
                "digits",
                method="zip",
                queries=queries,
                optimizer={"step_size": step_size},
                validation={"every_queries": queries // 4},
                tracking={"enabled": False},
                output=folder / f"trial-{trial}",
                pool=pool,
                callbacks=[pruner],
                progress=False,
            )
            print(
                f"step size {step_size:.4f}: {'finished' if result.finished else 'pruned'} at {result.queries} queries"
            )
            if result.finished:
                finished.append((step_size, result))
    return sorted(finished, key=lambda one: -one[1].prompt.card.accuracies["validation"])


if __name__ == "__main__":
    step_size, best = sweep(Path("runs/sweep"), trials=8, queries=1000)[0]
    print(f"best: step size {step_size:.4f}, test accuracy {best.accuracy:.1%}, in {best.folder}")
