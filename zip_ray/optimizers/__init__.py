"""How the parameters move: ask/tell, numpy only, no torch and no Ray."""

from zip_ray.config import Method, OptimizerConfig
from zip_ray.optimizers.base import NONFINITE_STEPS, Optimizer, OptimizerState, StepReport
from zip_ray.optimizers.cma_es import CmaEs
from zip_ray.optimizers.gains import Gains
from zip_ray.optimizers.gradient import GradientDescent
from zip_ray.optimizers.one_sided import OneSided
from zip_ray.optimizers.random_search import RandomSearch
from zip_ray.optimizers.spsa import Spsa, SpsaGc, Zip
from zip_ray.protocol.perturbations import perturbation, points

METHODS: dict[Method, type[Optimizer]] = {
    "zip": Zip,
    "spsa": Spsa,
    "spsa-gc": SpsaGc,
    "one-sided": OneSided,
    "cma-es": CmaEs,
    "random-search": RandomSearch,
    "gradient": GradientDescent,
}


def make_optimizer(
    config: OptimizerConfig, state: OptimizerState, seed: int, schedule_steps: int | None = None
) -> Optimizer:
    """The configured method, going on from `state`; arguments as `Optimizer` takes them."""
    return METHODS[config.method](config, state, seed, schedule_steps)


__all__ = [
    "METHODS",
    "NONFINITE_STEPS",
    "Gains",
    "Optimizer",
    "OptimizerState",
    "StepReport",
    "make_optimizer",
    "perturbation",
    "points",
]
