"""Contract tests: what every optimiser, prompt space and scorer keeps. Inherit a class in a test file of pytest.

The built-in ones pass the same classes.
"""

from zip_ray.testing.optimizer_contract import OptimizerContract
from zip_ray.testing.scorer_contract import ScorerContract
from zip_ray.testing.space_contract import PromptSpaceContract

__all__ = ["OptimizerContract", "PromptSpaceContract", "ScorerContract"]
