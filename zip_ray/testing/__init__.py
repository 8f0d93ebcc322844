"""Contract tests for optimisers, prompt spaces, scorers and pools. Inherit a class in a test file of pytest.

The built-in ones pass the same classes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zip_ray.testing.optimizer_contract import OptimizerContract
    from zip_ray.testing.pool_contract import PoolContract
    from zip_ray.testing.scorer_contract import ScorerContract
    from zip_ray.testing.space_contract import PromptSpaceContract

_HOMES = {
    "OptimizerContract": "optimizer_contract",
    "PoolContract": "pool_contract",
    "PromptSpaceContract": "space_contract",
    "ScorerContract": "scorer_contract",
}
"""By class: its module. Only where one is asked for is pytest needed: the scorer of these tests runs on actors."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zip_ray.testing' has no attribute '{name}'")
    return getattr(import_module(f"zip_ray.testing.{_HOMES[name]}"), name)


__all__ = ["OptimizerContract", "PoolContract", "PromptSpaceContract", "ScorerContract"]
