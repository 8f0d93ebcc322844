"""How the parameters move: ask/tell, numpy only, no torch and no Ray."""

from typing import Any

from zip_ray.optimizers.base import NONFINITE_STEPS, MethodOptions, Optimizer, OptimizerState, Problem, StepReport
from zip_ray.optimizers.cma_es import CmaEs
from zip_ray.optimizers.gauss_newton import GaussNewton
from zip_ray.optimizers.gradient import GradientDescent
from zip_ray.optimizers.one_sided import OneSided
from zip_ray.optimizers.random_search import RandomSearch
from zip_ray.optimizers.spsa import Spsa, SpsaGc, Zip

METHODS: dict[str, Any] = {
    "gauss-newton": GaussNewton,
    "zip": Zip,
    "spsa": Spsa,
    "spsa-gc": SpsaGc,
    "one-sided": OneSided,
    "cma-es": CmaEs,
    "random-search": RandomSearch,
    "gradient": GradientDescent,
}


__all__ = [
    "METHODS",
    "NONFINITE_STEPS",
    "MethodOptions",
    "Optimizer",
    "OptimizerState",
    "Problem",
    "StepReport",
]
