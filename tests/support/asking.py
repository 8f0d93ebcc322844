"""Optimisers built from options, on the small quadratic of `zip_ray.testing`."""

import numpy as np

from zip_ray.config.tree import Config
from zip_ray.optimizers import MethodOptions, Optimizer, method_class
from zip_ray.testing import stepper
from zip_ray.testing.stepper import PROBLEM, answer, quadratic

__all__ = ["PROBLEM", "Stepper", "answer", "make_optimizer", "options_of", "quadratic"]


def options_of(method: str = "zip", **settings: object) -> MethodOptions:
    """The options of a method, read as a config would read them."""
    return Config.model_validate({"optimizer": {"method": method, **settings}}).optimizer


def make_optimizer(options: MethodOptions, seed: int, schedule_steps: int | None = None) -> Optimizer:
    """The optimiser that these options describe."""
    problem = [PROBLEM] if options.wants_scores else []
    made: Optimizer = method_class(options.method)(options, seed, schedule_steps, *problem)
    return made


class Stepper(stepper.Stepper):
    """A stepper of an optimiser with these options."""

    def __init__(self, options: MethodOptions, w: np.ndarray, seed: int, schedule_steps: int | None = None) -> None:
        super().__init__(make_optimizer(options, seed, schedule_steps), w)
