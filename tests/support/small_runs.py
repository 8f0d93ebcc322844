"""Runs of a few steps over a scorer without a model."""

from pathlib import Path
from typing import Any

from tests.support.configs import zip_config
from tests.support.fakes import FakeScorer
from zip_ray.config.tree import Config
from zip_ray.pool.in_process import InProcessPool


def make_config(folder: Path, queries: int = 12, **sections: Any) -> Config:
    """Config of a run into this folder: one step of ten queries, no tracking; each section can be overridden."""
    prompt = sections.pop("prompt", {"intrinsic_dimension": 8, "rank": 1})
    rest = {"output": {"dir": str(folder)}, "tracking": {"enabled": False}, "budget": {"queries": queries}}
    return zip_config({"prompt": prompt, **rest, **sections}, "test")


def open_pool(_: Config) -> InProcessPool:
    """Open a fault-free pool in this process."""
    return InProcessPool(FakeScorer)
