"""How the parameters move: ask/tell, numpy only, no torch and no Ray."""

from zip_ray.optimizers.gains import Gains
from zip_ray.optimizers.perturbations import perturbation
from zip_ray.optimizers.spsa import METHODS, OptimizerState, Spsa, StepReport, initial_state, make_optimizer

__all__ = [
    "METHODS",
    "Gains",
    "OptimizerState",
    "Spsa",
    "StepReport",
    "initial_state",
    "make_optimizer",
    "perturbation",
]
