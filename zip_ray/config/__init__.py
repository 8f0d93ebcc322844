"""The one config tree: typed, frozen, read from YAML, overridable field by field on the command line.

The defaults of `prompt`, `optimizer` and `budget` are the published setting of ZIP (Park et al., ICLR 2025,
section 5 and the released code). Units stand in each field's docstring.
"""

from zip_ray.config.model import ModelConfig, PromptConfig, Space
from zip_ray.config.optimizer import SCHEDULED, SYNCHRONOUS, Loss, Method, OptimizerConfig
from zip_ray.config.read import explain, load_config, read_tree, validate
from zip_ray.config.run import BudgetConfig, ClusterConfig, OutputConfig, TrackingConfig, ValidationConfig, per_gpu
from zip_ray.config.section import Count, Section, Seed
from zip_ray.config.task import BUILT_IN, ROOTED, TaskConfig, known_test_sets
from zip_ray.config.tree import Config

__all__ = [
    "BUILT_IN",
    "ROOTED",
    "SCHEDULED",
    "SYNCHRONOUS",
    "BudgetConfig",
    "ClusterConfig",
    "Config",
    "Count",
    "Loss",
    "Method",
    "ModelConfig",
    "OptimizerConfig",
    "OutputConfig",
    "PromptConfig",
    "Section",
    "Seed",
    "Space",
    "TaskConfig",
    "TrackingConfig",
    "ValidationConfig",
    "explain",
    "known_test_sets",
    "load_config",
    "per_gpu",
    "read_tree",
    "validate",
]
