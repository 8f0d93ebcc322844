"""Optimisers of the parameters: ask/tell; numpy only, without torch and Ray."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zip_ray import registry
from zip_ray.optimizers.base import NONFINITE_STEPS, MethodOptions, Optimizer, OptimizerState, Problem, StepReport
from zip_ray.optimizers.cma_es import CmaEs
from zip_ray.optimizers.gauss_newton import GaussNewton
from zip_ray.optimizers.gradient import GradientDescent
from zip_ray.optimizers.one_sided import OneSided
from zip_ray.optimizers.random_search import RandomSearch
from zip_ray.optimizers.spsa import Spsa, SpsaGc, Zip

METHODS: Mapping[str, Any] = MappingProxyType(
    {
        "gauss-newton": GaussNewton,
        "zip": Zip,
        "spsa": Spsa,
        "spsa-gc": SpsaGc,
        "one-sided": OneSided,
        "cma-es": CmaEs,
        "random-search": RandomSearch,
        "gradient": GradientDescent,
    }
)
"""The built-in methods. Others are named by entry points and paths (see `registry`)."""


def method_class(name: str) -> Any:
    """The class of a method, built in or the user's own.

    Raises:
        InputError: there is none of that name.
    """
    return METHODS.get(name) or registry.find("optimizer", name)


__all__ = [
    "METHODS",
    "NONFINITE_STEPS",
    "MethodOptions",
    "Optimizer",
    "OptimizerState",
    "Problem",
    "StepReport",
    "method_class",
]
